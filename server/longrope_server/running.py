"""The HTTP requests that are running, and how they are ended before their time.

A request is ended from outside when its key is revoked or the time to drain is over: its work is
cancelled (which frees its KV), and its client gets an error and no silence.
"""

import asyncio
from collections.abc import Callable, Iterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.keys.authentication import key_of
from longrope_server.openai_error import Count, Refusal, is_event_stream, uncounted


class Exchange:
    """One running request. key: the name of its key, if it has one."""

    def __init__(self, key: str | None, limit: asyncio.Timeout) -> None:
        self.key = key
        self.limit = limit
        self.refusal: Refusal | None = None

    def end(self, refusal: Refusal) -> None:
        """Cancels the request's work; its client is told `refusal`."""
        if self.refusal is None and not self.limit.expired():
            self.refusal = refusal
            self.limit.reschedule(asyncio.get_running_loop().time())


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
    """Notes each request of `app` in `running` and lets it be ended there."""

    def __init__(self, app: ASGIApp, running: Running, refused: Count = uncounted) -> None:
        self.app = app
        self.running = running
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        key = key_of(scope)
        answer = _Answer(send)
        try:
            async with asyncio.timeout(None) as limit:
                exchange = Exchange(key.name if key else None, limit)
                self.running.exchanges.add(exchange)
                await self.app(scope, receive, answer)
        except TimeoutError:
            if exchange.refusal is None:
                raise
            self.refused(exchange.refusal.reason)
            await answer.end(exchange.refusal, scope, receive)
        finally:
            self.running.remove(exchange)


class _Answer:
    """Sends an answer on and remembers how far it has come."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.headers: Headers | None = None
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.headers = Headers(raw=message["headers"])
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body")
        elif message["type"] == "websocket.close":
            self.complete = True
        await self.send(message)

    async def end(self, refusal: Refusal, scope: Scope, receive: Receive) -> None:
        """Says `refusal` in the way that is still open.

        The head of an answer that is no stream may have gone out: then the connection breaks,
        which a client cannot take for the whole answer.
        """
        if self.complete:
            return
        if self.headers is None:
            await refusal.send(scope, receive, self.send)
        elif is_event_stream(self.headers):
            await self.send(
                {"type": "http.response.body", "body": refusal.event(), "more_body": False}
            )
