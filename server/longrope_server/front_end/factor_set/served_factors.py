"""`GET /v1/factors`: which factor sets are served."""

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from longrope_plugin.selection import Selection

from longrope_server.front_end.openai_error import Refusal


async def factors(request: Request) -> JSONResponse:
    """The factor sets that are served, ascending by max_length."""
    selection: Selection | None = request.app.state.longrope_selection
    if selection is None:
        message = "The served model has no longrope factor sets: serve one with --factors FILE."
        return JSONResponse(Refusal(404, "no_factor_sets", message).document(), 404)
    return JSONResponse(described(selection))


def described(selection: Selection) -> dict[str, Any]:
    """The body of `GET /v1/factors`; a fingerprint stands for the factors themselves."""
    factor_file = selection.factor_file
    return {
        "object": "longrope.factors",
        "model": factor_file.model.model_dump(mode="json"),
        "selection": selection.policy,
        "max_model_len": selection.max_model_len,
        "sets": [
            {
                "max_length": factor_set.max_length,
                "start_tokens": factor_set.start_tokens,
                "attention_factor": factor_set.attention_factor,
                "fingerprint": factor_set.fingerprint,
                "adapter": factor_set.adapter and factor_set.adapter.model_dump(mode="json"),
                "provenance": factor_set.provenance.model_dump(mode="json", exclude_none=True),
            }
            for factor_set in factor_file.sets
        ],
    }
