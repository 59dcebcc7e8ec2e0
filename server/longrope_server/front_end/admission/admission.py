"""The piece that lets requests in by their length."""

import asyncio
import time
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from longrope_server.front_end.admission.estimate import tokens_in
from longrope_server.front_end.admission.gate import Gate, Ticket
from longrope_server.front_end.authentication import key_of, path_of
from longrope_server.front_end.bodies.body_limit import BODY, Body
from longrope_server.front_end.openai_error import (
    REFUSED,
    Count,
    answering_refusals,
    ignore_refusal,
)

PLACE = "longrope.place"  # in the scope: the Admitted of a request that has or had a place
# The last words of paths that turn a prompt into tokens or back, and ask no engine.
WITHOUT_ENGINE = frozenset({"tokenize", "detokenize", "count_tokens", "render", "derender"})


class Admitted:
    """The place of the HTTP request that is being answered.

    It holds the largest number of tokens that the request's prompts had in the engine at once. The
    prompts of a beam search or a tool loop count only once, because they come one after the other
    and each continues the one before.
    """

    def __init__(self, gate: Gate, ticket: Ticket, waited: float = 0.0) -> None:
        self.gate = gate
        self.ticket = ticket
        self.waited = waited  # seconds, for this place and those before it
        self.in_engine = 0
        self.tokens = 0  # the most that were in the engine at once
        self.longest = 0
        self.moving = asyncio.Lock()

    async def tokenised(self, prompt_tokens: int) -> None:
        """Corrects the estimate: one of the request's prompts has `prompt_tokens` tokens.

        To be called before the engine sees the prompt. May wait for another place.
        """
        self.in_engine += prompt_tokens
        self.tokens = max(self.tokens, self.in_engine)
        self.longest = max(self.longest, prompt_tokens)
        async with self.moving:  # one prompt at a time: a request must not wait for itself
            began = time.monotonic()
            await self.gate.correct(self.ticket, self.tokens, self.longest)
            self.waited += time.monotonic() - began

    def asks(self) -> None:
        """Notes that a prompt goes to an engine."""
        self.ticket.has_asked = True

    def computed(self, prompt_tokens: int) -> None:
        """Notes that a prompt, which `tokenised` has counted, has left the engine."""
        self.in_engine -= prompt_tokens


current_place: ContextVar[Admitted | None] = ContextVar("longrope_place", default=None)


class Admission:
    """Lets a request wait until there is a place, or answers 429 or 503 in place of `app`.

    Only requests whose body was read (by `BodyLimit`, in front) take a place; the others cost
    nothing. A request that asks no engine counts as one without tokens, and so does a WebSocket,
    without a place.
    """

    def __init__(self, app: ASGIApp, gate: Gate, refused: Count = ignore_refusal) -> None:
        self.app = app
        self.gate = gate
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        body: Body | None = scope.get(BODY)
        async with answering_refusals(scope, receive, send, self.refused):
            if scope["type"] == "websocket":  # it may wait for speech for hours
                with self.gate.aside(key_of(scope)):
                    await self.app(scope, receive, send)
            elif body is None:
                await self.app(scope, receive, send)
            else:
                await self._admit(body, scope, receive, send)

    async def _admit(self, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        ticket = await self.gate.enter(_tokens(scope, body), key_of(scope), body.gone)
        if ticket is None:
            scope[REFUSED] = "client_left_queue"
            self.refused("client_left_queue")
            return
        scope[PLACE] = Admitted(self.gate, ticket, waited=time.monotonic() - began)
        place = current_place.set(scope[PLACE])
        try:
            await self.app(scope, receive, send)
        finally:
            current_place.reset(place)
            self.gate.leave(ticket)


def _tokens(scope: Scope, body: Body) -> int:
    """About how many tokens the request brings to an engine."""
    if path_of(scope).rpartition("/")[2] in WITHOUT_ENGINE:
        return 0
    return tokens_in(body.chunks, Headers(scope=scope).get("content-type", ""))
