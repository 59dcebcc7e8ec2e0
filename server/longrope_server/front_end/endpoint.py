"""The endpoint plug-in: puts our routes into vLLM's application and our pieces around it."""

import os
from argparse import Namespace
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from longrope_plugin.selection import Selection
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from vllm.exceptions import VLLMValidationError

from longrope_server.front_end import connections, metrics
from longrope_server.front_end.accounting.usage_route import usage
from longrope_server.front_end.bodies.body_limit import largest_body
from longrope_server.front_end.factor_set.observe import ASKING, observed
from longrope_server.front_end.factor_set.served_factors import factors
from longrope_server.front_end.key_limits import KeyLimits
from longrope_server.front_end.openai_error import http_error
from longrope_server.front_end.page import page
from longrope_server.front_end.pieces import FrontEnd
from longrope_server.front_end.settings import Settings
from longrope_server.front_end.stumbles import engine_has_it
from longrope_server.front_end.takes_requests import draining_first, ready
from longrope_server.front_end.vllm_patches import refusal_texts
from longrope_server.front_end.vllm_patches.check import check
from longrope_server.front_end.vllm_patches.engine_counts import note_counts
from longrope_server.front_end.vllm_patches.prefill import prefill_progress
from longrope_server.front_end.vllm_patches.stumbling import refuse_what_stumbles

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.engine.protocol import EngineClient
    from vllm.tasks import SupportedTask

# They change the number of engines, and do not answer if it cannot be changed.
SCALING_ROUTES = ("/scale_elastic_ep", "/is_scaling_elastic_ep")
# It answers 501 if the model has no such API.
DECISION_ROUTES = ("/v1/systemone",)


class LongRoPEEndpoint:
    """Implements vLLM's EndpointPlugin protocol; loaded if VLLM_PLUGINS names `longrope`."""

    name = "longrope"
    required_tasks: "tuple[SupportedTask, ...] | None" = None  # keys protect models of every task

    def __init__(self) -> None:
        self.front_end: FrontEnd | None = None
        self.app: FastAPI | None = None  # set when its routes are attached

    def attach_router(self, app: FastAPI) -> None:
        """Adds the routes, and the pieces that `init_state` makes before the first request."""
        self.app = app
        app.add_api_route("/v1/factors", factors, methods=["GET"])
        app.add_api_route("/v1/usage", usage, methods=["GET"])
        app.add_api_route("/ready", ready, methods=["GET"])
        app.add_exception_handler(HTTPException, http_error)
        app.add_middleware(self._around)
        if not getattr(app.state.args, "enable_elastic_ep", False):
            _remove_routes(app, SCALING_ROUTES)

    def _around(self, app: ASGIApp) -> ASGIApp:
        """`app` with the pieces around it.

        They are made at the first call, because vLLM asks for them before `init_state`. By then
        uvicorn listens.
        """
        whole: ASGIApp | None = None

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal whole
            if whole is None:
                assert self.front_end is not None, "vLLM calls init_state before it serves"
                assert self.app is not None
                connections.end_unread(self.app.state.server)
                whole = self.front_end.around(app)
            await whole(scope, receive, send)

        return call

    async def init_state(
        self, engine_client: "EngineClient | None", state: State, args: Namespace
    ) -> None:
        """Makes the pieces for the served model and starts to note the engine's requests."""
        check()
        refusal_texts.count_whole_prompts()
        refusal_texts.keep_inputs_out_of_errors()
        refuse_what_stumbles(engine_has_it)
        config: VllmConfig = state.vllm_config
        selection = Selection.from_vllm_config(config)
        state.longrope_selection = selection
        ask = None
        if selection is not None and engine_client is not None:
            ask = partial(prefill_progress, engine_client)
        engines = _engines(config)
        kv_tokens = getattr(config.cache_config, "kv_cache_size_tokens", None)  # of one engine
        settings = Settings.from_environment(os.environ)
        if self.app is not None and settings.page:
            page.add_routes(self.app)
        self.front_end = FrontEnd(
            settings,
            boundaries=_boundaries(config, selection),
            largest_body=_largest_body(config.model_config),
            max_num_seqs=config.scheduler_config.max_num_seqs * engines,
            kv_tokens=None if kv_tokens is None else kv_tokens * engines,
            engine=engine_client,
            ask=ask,
            has_priorities=config.scheduler_config.policy == "priority",
            traces=config.observability_config.otlp_traces_endpoint is not None,
        )
        state.longrope_books = self.front_end.books
        state.longrope_life = self.front_end.life
        if self.app is not None and getattr(state, "serving_structured_decisions", None) is None:
            _remove_routes(self.app, DECISION_ROUTES)
        responses = getattr(state, "openai_serving_responses", None)
        if responses is not None:
            responses.create_responses = in_the_foreground(responses.create_responses)
        if engine_client is None:
            return
        note_counts()
        limits = KeyLimits(args.served_model_name or [args.model], metrics.refused)
        ended = self.front_end.engine_request_ended
        # On the instance, which every serving handler holds: they look its methods up by name.
        for method in ASKING:
            ask_engine = getattr(engine_client, method)
            _replace(engine_client, method, observed(ask_engine, selection, limits, ended))
        seconds = settings.drain_seconds
        if seconds is None:
            seconds = config.shutdown_timeout
        shutdown = draining_first(engine_client.shutdown, self.front_end.life, seconds)
        _replace(engine_client, "shutdown", shutdown)


def _engines(config: "VllmConfig") -> int:
    """The number of data parallel engines that this server sends requests to."""
    parallel = config.parallel_config
    if parallel.local_engines_only:
        return max(parallel.data_parallel_size_local, 1)
    return int(parallel.data_parallel_size)


def _largest_body(model: "ModelConfig") -> int:
    """The bytes of a body that every prompt of the model should fit into."""
    embedding = model.get_hidden_size() if model.enable_prompt_embeds else 0
    return largest_body(model.max_model_len, model.is_multimodal_model, embedding)


def _boundaries(config: "VllmConfig", selection: Selection | None) -> list[int]:
    """The longest sequences of the served factor sets, ascending, the served length last.

    Also shows the metrics of every set as 0 from the start.
    """
    served = config.model_config.max_model_len
    if selection is None:
        return [served]
    limits = [factor_set.max_length for factor_set in selection.factor_file.sets]
    metrics.prepare_sets(limits)
    return [*(limit for limit in limits if limit < served), served]


def _remove_routes(app: FastAPI, paths: tuple[str, ...]) -> None:
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "path", None) not in paths
    ]


def in_the_foreground(create: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The Responses API without `background`, whose requests go on after their HTTP answer.

    Nothing would limit them, wait for them at a shutdown, or end them with their key.
    """

    async def create_responses(request: Any, *args: Any, **kwargs: Any) -> Any:
        if request.background:
            raise VLLMValidationError(
                "background is true; this server answers in the foreground only: leave it out, and "
                "stream the answer if it takes long.",
                parameter="background",
            )
        return await create(request, *args, **kwargs)

    return create_responses


def _replace(engine_client: Any, method: str, replacement: Any) -> None:
    setattr(engine_client, method, replacement)
