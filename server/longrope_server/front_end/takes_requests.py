"""Whether this process takes requests, and how it stops.

On SIGTERM vLLM stops its engine. Here it first waits until the running requests have ended; until
then, `/ready` and every new request get 503.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from longrope_server.front_end.authentication import path_of
from longrope_server.front_end.endable import Running
from longrope_server.front_end.factor_set.answer import BEGAN
from longrope_server.front_end.openai_error import Count, Refusal, ignore_refusal

LIVENESS = ("/health", "/ready")
ALWAYS_ANSWERED = frozenset({*LIVENESS, "/metrics", "/ping"})
SECONDS_TO_SAY_SO = 5.0  # to send an error to requests that the end of the drain time cuts off


class Engine(Protocol):
    """The part of vLLM's EngineClient that is asked."""

    @property
    def errored(self) -> bool:
        """Whether the engine is dead."""
        ...


class ServerState:
    """The state of one API process. engine: None if there is none (a render-only server)."""

    of_this_process: "ServerState | None" = None

    def __init__(self, running: Running, engine: Engine | None) -> None:
        ServerState.of_this_process = self
        self.running = running
        self.engine = engine
        self.draining = False

    @property
    def engine_dead(self) -> bool:
        """Whether the engine has died."""
        return self.engine is not None and self.engine.errored

    def unready(self) -> Refusal | None:
        """Why no requests are taken at this moment; None if they are."""
        if self.engine_dead:
            return _unavailable("engine_dead", "The engine has died; the server is stopping.")
        if self.draining:
            return _unavailable("draining", "The server is shutting down and takes no requests.")
        return None

    def drain(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Stops taking requests, and returns when the running ones have ended.

        To be called from a thread other than the loop's. After `seconds`, the remaining requests
        are ended with an error.
        """
        idle = threading.Event()
        loop.call_soon_threadsafe(self._start_draining, idle)
        if not idle.wait(seconds) and not self.engine_dead:
            late = _unavailable("drain_timeout", "The server shut down before this was complete.")
            loop.call_soon_threadsafe(self.running.end_all, late)
            idle.wait(SECONDS_TO_SAY_SO)

    def _start_draining(self, idle: threading.Event) -> None:
        self.draining = True
        self.running.emptied.append(idle.set)
        if not self.running:
            idle.set()


def engine_died() -> bool:
    """Whether this process has served, and its engine has died."""
    life = ServerState.of_this_process
    return life is not None and life.engine_dead and not life.draining


class TakesRequests:
    """Answers 503 in place of `app` while no requests are taken."""

    def __init__(self, app: ASGIApp, life: ServerState, refused: Count = ignore_refusal) -> None:
        self.app = app
        self.life = life
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        asks = scope["type"] in ("http", "websocket") and path_of(scope) not in ALWAYS_ANSWERED
        refusal = self.life.unready() if asks else None
        if refusal is None:
            scope[BEGAN] = time.monotonic()
            await self.app(scope, receive, send)
            return
        self.refused(refusal.reason)
        await refusal.send(scope, receive, send)


async def ready(request: Request) -> Response:
    """`GET /ready`: 200 once the model is loaded, 503 while draining or with a dead engine."""
    life: ServerState = request.app.state.longrope_life
    if (refusal := life.unready()) is not None:
        return JSONResponse(refusal.document(), refusal.status)
    return JSONResponse({"status": "ready"})


def draining_first(
    shutdown: Callable[..., None], life: ServerState, seconds: float
) -> Callable[..., None]:
    """Wraps `engine_client.shutdown`, which vLLM calls in a thread on SIGTERM, to drain first.

    vLLM calls it once more, in the loop's own thread, when everything is over and there is nothing
    to wait for.
    """
    loop = asyncio.get_running_loop()
    loop_thread = threading.get_ident()

    def drained(*args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != loop_thread and not life.draining:
            life.drain(seconds, loop)
        shutdown(*args, **kwargs)

    return drained


def _unavailable(code: str, message: str) -> Refusal:
    return Refusal(503, code, message, retry_after=1, headers={"Connection": "close"})
