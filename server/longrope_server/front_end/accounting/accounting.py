"""The piece that keeps a record of every HTTP request, served or refused."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.front_end.accounting.books import Books
from longrope_server.front_end.accounting.record import Exchange, line_of
from longrope_server.front_end.accounting.tracing import Tracing
from longrope_server.front_end.authentication import path_of
from longrope_server.front_end.factor_set.answer import ANSWER, Answer
from longrope_server.front_end.takes_requests import ALWAYS_ANSWERED

# After a client has left, that its engine requests have to end, which tells what they took.
SECONDS_TO_END = 5.0


class Accounting:
    """Notes each request of `app` in the books, and sends its span to the trace.

    It must be outside of all pieces that may refuse a request. What an answer says once its engine
    requests have ended (of a stream: its usage and [DONE]) waits until the books are written. So a
    client that has the whole answer is on record, even if the server is killed the moment after.
    Probes and scrapes are not noted.
    """

    def __init__(self, app: ASGIApp, books: Books | None, tracing: Tracing | None) -> None:
        self.app = app
        self.books = books
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] not in ("http", "websocket") or path_of(scope) in ALWAYS_ANSWERED:
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, time.time(), time.monotonic())
        span = self.tracing.start(exchange) if self.tracing else None

        async def noting(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                exchange.began_to_answer(message.get("status"))
            elif message["type"] == "http.response.body":
                if is_last := not message.get("more_body"):
                    exchange.ended()
                await self._write(exchange, is_last)
            elif message["type"] == "websocket.close":
                exchange.ended()
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            exchange.status = exchange.status or 500  # which vLLM answers outside of our pieces
            raise
        finally:
            if not exchange.is_noted:
                await _all_ended(scope.get(ANSWER))
                self._note(exchange)
            if self.tracing and span:
                self.tracing.end(span, exchange)

    async def _write(self, exchange: Exchange, is_last: bool) -> None:
        """Notes the request if its answer ends, and waits until all that has ended is written."""
        if self.books is None:
            return
        answer: Answer | None = exchange.scope.get(ANSWER)
        ended = answer.amounts.requests if answer and not answer.asking else 0
        if is_last:
            self._note(exchange)
        elif ended <= exchange.written:
            return
        exchange.written = ended
        await self.books.written()

    def _note(self, exchange: Exchange) -> None:
        exchange.is_noted = True
        if self.books is not None:
            self.books.note(line_of(exchange.record()))


async def _all_ended(answer: Answer | None) -> None:
    """Waits for engine requests that were aborted in another task."""
    if answer is not None and answer.asking:
        answer.quiet.clear()
        try:
            async with asyncio.timeout(SECONDS_TO_END):
                await answer.quiet.wait()
        except TimeoutError:
            pass
