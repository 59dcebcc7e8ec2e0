"""The running HTTP requests, and how they are ended early.

A request is ended from outside when its key is revoked or the time to drain is over, and from here
when its client does not take the answer. Its work is stopped, which frees its KV, and its client
gets an error instead of silence.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.front_end.authentication import key_of
from longrope_server.front_end.openai_error import (
    REFUSED,
    Count,
    Refusal,
    ignore_refusal,
    is_event_stream,
)

SECONDS_TO_STOP = 0.5  # for an application that was told that its client has left
# For a client to take what was sent before: uvicorn lets the next part of an answer wait while more
# than 64 KiB do. nginx gives as long (send_timeout).
SECONDS_TO_TAKE = 60.0
PART_BYTES = 1 << 16
SECONDS_TO_TELL = 4.0  # for the error that ends a request to be sent


class Exchange:
    """One running request. key: the name of its key, if it has one."""

    def __init__(self, key: str | None, limit: asyncio.Timeout) -> None:
        self.key = key
        self.limit = limit
        self.listening: set[asyncio.Timeout] = set()  # around each call of `receive`
        self.refusal: Refusal | None = None

    def end(self, refusal: Refusal) -> None:
        """Stops the request's work; its client is told `refusal`.

        The application hears that the client has left, and is cancelled if that does not stop it.
        Cancelling alone would not stop vLLM, which answers in a task of its own.
        """
        if self.refusal is None:
            self.refusal = refusal
            now = asyncio.get_running_loop().time()
            for timeout in self.listening:
                timeout.reschedule(now)
            self.limit.reschedule(now + SECONDS_TO_STOP)


class Running:
    """All exchanges of this process."""

    def __init__(self) -> None:
        self.exchanges: set[Exchange] = set()
        self.emptied: list[Callable[[], None]] = []  # called whenever the last one has ended

    def __len__(self) -> int:
        return len(self.exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(tuple(self.exchanges))

    def remove(self, exchange: Exchange) -> None:
        """Forgets an exchange that has ended."""
        self.exchanges.discard(exchange)
        if not self.exchanges:
            for call in self.emptied:
                call()

    def end_all(self, refusal: Refusal) -> None:
        """Ends every exchange."""
        for exchange in self:
            exchange.end(refusal)

    def end_keys(self, names: set[str], refusal: Refusal) -> None:
        """Ends the exchanges of keys with these names."""
        for exchange in self:
            if exchange.key in names:
                exchange.end(refusal)


class Endable:
    """Notes each request of `app` in `running`, so that it can be ended from there."""

    def __init__(self, app: ASGIApp, running: Running, refused: Count = ignore_refusal) -> None:
        self.app = app
        self.running = running
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        key = key_of(scope)
        exchange = Exchange(key.name if key else None, asyncio.timeout(None))
        answer = _Answer(exchange, send)
        self.running.exchanges.add(exchange)
        try:
            try:
                async with exchange.limit:
                    await self.app(scope, _Receiver(exchange, receive, scope["type"]), answer)
            except Exception:
                if exchange.refusal is None:
                    raise
            if exchange.refusal is not None:
                self.refused(exchange.refusal.reason)
                await answer.end(exchange.refusal, scope, receive)
        finally:
            self.running.remove(exchange)


class _Receiver:
    """`receive` for the application; says that the client has left once the request is ended."""

    def __init__(self, exchange: Exchange, receive: Receive, kind: str) -> None:
        self.exchange = exchange
        self.receive = receive
        self.kind = kind

    async def __call__(self) -> Message:
        exchange = self.exchange
        if exchange.refusal is None:
            try:
                async with asyncio.timeout(None) as limit:
                    exchange.listening.add(limit)
                    try:
                        return await self.receive()
                    finally:
                        exchange.listening.discard(limit)
            except TimeoutError:
                if exchange.refusal is None:
                    raise
        return {"type": f"{self.kind}.disconnect", "code": 1001}


class _Answer:
    """Passes an answer on until its request is ended, and remembers how much was sent."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self.exchange = exchange
        self.send = send
        self.headers: Headers | None = None
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if self.exchange.refusal is not None:
            await asyncio.sleep(0)  # yield to the event loop: the application may go on sending
            return
        try:
            async with asyncio.timeout(None) as taking:
                for part in _parts(message):
                    taking.reschedule(asyncio.get_running_loop().time() + SECONDS_TO_TAKE)
                    await self.send(part)  # may be cancelled while the client does not read
        except TimeoutError:
            if not taking.expired():
                raise
            self.exchange.end(_not_taken())
            return
        if message["type"] == "http.response.start":
            self.headers = Headers(raw=message["headers"])
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body")
        elif message["type"] == "websocket.close":
            self.complete = True

    async def end(self, refusal: Refusal, scope: Scope, receive: Receive) -> None:
        """Sends `refusal` in the way that is still open.

        If the answer is not a stream and its head has gone out, there is no such way: the
        connection breaks, so that the client cannot take what it has for the whole answer. It also
        breaks if the client does not read.
        """
        if not self.complete:
            with suppress(TimeoutError):
                async with asyncio.timeout(SECONDS_TO_TELL):
                    await self._tell(refusal, scope, receive)

    async def _tell(self, refusal: Refusal, scope: Scope, receive: Receive) -> None:
        if self.headers is None:
            await refusal.send(scope, receive, self.send)
            return
        scope[REFUSED] = refusal.reason
        if is_event_stream(self.headers):
            await self.send(
                {"type": "http.response.body", "body": refusal.event(), "more_body": False}
            )


def _parts(message: Message) -> Iterator[Message]:
    """The same as messages that each wait for the client, of at most PART_BYTES.

    Uvicorn takes the last message of an answer at once, however large it is. As parts, all but the
    end of it is held by the request, which keeps its place for so long.
    """
    body = message.get("body", b"") if message["type"] == "http.response.body" else b""
    if len(body) <= PART_BYTES:
        yield message
        return
    for start in range(0, len(body), PART_BYTES):
        end = start + PART_BYTES
        more = end < len(body) or message.get("more_body", False)
        yield {"type": "http.response.body", "body": body[start:end], "more_body": more}


def _not_taken() -> Refusal:
    return Refusal(
        408,
        "answer_timeout",
        f"The client took nothing of its answer for {SECONDS_TO_TAKE:g} seconds.",
    )
