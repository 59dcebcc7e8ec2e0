"""The endpoint plug-in: `GET /v1/factors`, and the factor set of every answer."""

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from longrope_plugin.selection import Selection
from starlette.datastructures import State
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse

from longrope_server.middleware import FactorSetMiddleware
from longrope_server.observe import observed

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient
    from vllm.tasks import SupportedTask


class LongRoPEEndpoint:
    """vLLM's EndpointPlugin protocol; loaded where VLLM_PLUGINS names `longrope`."""

    name = "longrope"
    required_tasks: "tuple[SupportedTask, ...] | None" = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds the route and the middleware to vLLM's application."""
        app.add_api_route("/v1/factors", factors, methods=["GET"])
        app.add_middleware(FactorSetMiddleware)

    async def init_state(
        self, engine_client: "EngineClient | None", state: State, args: Namespace
    ) -> None:
        """Reads which factor sets are served and starts to note the engine's requests."""
        state.longrope_selection = None
        if engine_client is None:
            return
        selection = Selection.from_vllm_config(engine_client.vllm_config)
        state.longrope_selection = selection
        if selection is not None:
            # On the instance that every serving handler holds: they look the method up by name.
            noting = observed(engine_client.generate, selection)
            setattr(engine_client, "generate", noting)  # noqa: B010 (mypy: a method is assigned)


async def factors(request: Request) -> JSONResponse:
    """The factor sets that are served, ascending by max_length."""
    selection: Selection | None = request.app.state.longrope_selection
    if selection is None:
        message = "The served model has no longrope factor sets: serve one with --factors FILE."
        error = ErrorResponse(error=ErrorInfo(message=message, type="NotFoundError", code=404))
        return JSONResponse(error.model_dump(), status_code=404)
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
                "provenance": each.provenance.model_dump(mode="json", exclude_none=True),
            }
            for each in factor_file.sets
        ],
    }
