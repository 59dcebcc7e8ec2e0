"""Says in each answer which factor set served it: a header, and `factor_set` inside `usage`.

A pure ASGI piece. The engine's requests are noted in an Answer (see `observe`) that this middleware
puts into a context variable. Answers that need no engine pass unchanged. A WebSocket has no head,
so only its `usage` says it.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.front_end.authentication import key_of
from longrope_server.front_end.factor_set.answer import (
    ANSWER,
    BEGAN,
    HEADER,
    Answer,
    current_answer,
)
from longrope_server.front_end.factor_set.usage import with_factor_set

# The Responses API streams `response.created` and `response.in_progress` before it asks the engine,
# so the head of its answer has to wait for the next event. No other API streams anything before.
EVENTS_BEFORE_REQUEST = 2
# The header in which vLLM puts the usage of vectors that it sends as bytes.
METADATA = b"metadata"


class FactorSetMiddleware:
    """Adds `x-longrope-factor-set` and `usage.factor_set` to the answers of `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] != "websocket" and scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        answer = scope[ANSWER] = Answer(scope.get(BEGAN), key_of(scope))
        token = current_answer.set(answer)
        try:
            await self.app(scope, receive, _Sender(answer, send))
        finally:
            current_answer.reset(token)


class _Sender:
    """Passes one answer's messages on, and adds the factor set to them."""

    def __init__(self, answer: Answer, send: Send) -> None:
        self.answer = answer
        self.send = send
        self.write = self._pass
        self.held: list[Message] = []
        self.holding = asyncio.Lock()
        self.partial = b""  # the part of an event stream's last line that has arrived

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self.write(message)
        elif message["type"] == "websocket.send":
            await self.send(self._websocket(message))
        else:
            await self.send(message)

    def _websocket(self, message: Message) -> Message:
        text, factor_set = message.get("text"), self.answer.factor_set()
        if text is None or factor_set is None:
            return message
        return {**message, "text": with_factor_set(text.encode(), factor_set).decode()}

    async def _start(self, message: Message) -> None:
        kind = _header(message, b"content-type")
        if kind.startswith(b"text/event-stream"):
            if self.answer.requests:
                self.write = self._event_stream
                await self.send(_with_header(message, self.answer))
            else:
                self.held.append(message)
                self.write = self._hold
                self.answer.release = self._release
        elif kind.startswith(b"application/json") and self.answer.requests:
            self.held.append(_with_header(message, self.answer))
            self.write = self._json
        elif self.answer.requests:
            await self.send(_with_header(message, self.answer))
        else:
            await self.send(message)

    async def _pass(self, message: Message) -> None:
        await self.send(message)

    async def _json(self, message: Message) -> None:
        """Holds a JSON answer until it is whole, because its length may change."""
        self.held.append(message)
        if message.get("more_body"):
            return
        start, *parts = self.held
        self.held = []
        body = b"".join(part.get("body", b"") for part in parts)
        factor_set = self.answer.factor_set()
        assert factor_set is not None, "a JSON answer is held only once a request was noted"
        changed = with_factor_set(body, factor_set)
        if changed is not body:
            start = _with_length(start, len(changed))
        await self.send(start)
        await self.send({"type": "http.response.body", "body": changed})

    async def _hold(self, message: Message) -> None:
        """Holds the head of an event stream until the engine was asked, or will not be."""
        self.held.append(message)
        if len(self.held) > 1 + EVENTS_BEFORE_REQUEST or not message.get("more_body"):
            await self._release()

    async def _release(self) -> None:
        async with self.holding:
            self.answer.release = None
            held, self.held = self.held, []
            self.write = self._event_stream
            for message in held:
                if message["type"] == "http.response.start":
                    await self.send(_with_header(message, self.answer))
                else:
                    await self._events(message)

    async def _event_stream(self, message: Message) -> None:
        if self.holding.locked():  # what was held goes first
            async with self.holding:
                pass
        await self._events(message)

    async def _events(self, message: Message) -> None:
        """Sends whole lines of an event stream, and adds the factor set to usage objects."""
        body, last = message.get("body", b""), not message.get("more_body")
        if not self.partial and b'"usage"' not in body and (last or body.endswith(b"\n")):
            await self.send(message)
            return
        whole, newline, self.partial = (self.partial + body).rpartition(b"\n")
        if last:
            whole, newline, self.partial = whole + newline + self.partial, b"", b""
        if b'"usage"' in whole:
            whole = b"\n".join(self._line(line) for line in whole.split(b"\n"))
        if whole or newline or last:
            await self.send({**message, "body": whole + newline})

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(b"data:") or (factor_set := self.answer.factor_set()) is None:
            return line
        return b"data:" + with_factor_set(line[len(b"data:") :], factor_set)


def _header(message: Message, name: bytes) -> bytes:
    return next((value for key, value in message["headers"] if key.lower() == name), b"")


def _with_header(message: Message, answer: Answer) -> Message:
    if (factor_set := answer.factor_set()) is None:
        return message
    headers = [
        (name, with_factor_set(value, factor_set) if name.lower() == METADATA else value)
        for name, value in message["headers"]
    ]
    started = str(factor_set["started"]).encode()
    return {**message, "headers": [*headers, (HEADER.encode(), started)]}


def _with_length(message: Message, length: int) -> Message:
    kept = [header for header in message["headers"] if header[0].lower() != b"content-length"]
    return {**message, "headers": [*kept, (b"content-length", str(length).encode())]}
