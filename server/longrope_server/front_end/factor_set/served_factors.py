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
    """What `GET /v1/factors` answers; the factors themselves are named by their fingerprint."""
    factor_file = selection.factor_file
    return {
        "object": "longrope.factors",
        "model": factor_file.model.model_dump(mode="json"),
        "selection": selection.policy,
        "max_model_len": selection.max_model_len,
        "sets": [
            {
                "max_length": each.max_length,
                "start_tokens": each.start_tokens,
                "attention_factor": each.attention_factor,
                "fingerprint": each.fingerprint,
                "adapter": each.adapter and each.adapter.model_dump(mode="json"),
                "provenance": each.provenance.model_dump(mode="json", exclude_none=True),
            }
            for each in factor_file.sets
        ],
    }
