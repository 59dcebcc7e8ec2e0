"""Turns a document into its text, as `longrope ask` does, for the page in the browser.

A pure ASGI piece: a document takes no place in a length class, because it asks nothing of the
engine. It counts as a request of its key.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from longrope_server.documents.apart import text_of_pdf_apart
from longrope_server.documents.document import decoded, is_pdf
from longrope_server.errors import UsageError
from longrope_server.front_end.admission.gate import Gate
from longrope_server.front_end.authentication import key_of, path_of
from longrope_server.front_end.bodies.body_limit import BODY, Body
from longrope_server.front_end.openai_error import (
    Count,
    Refusal,
    RefusedError,
    answering_refusals,
    ignore_refusal,
)

PATH = "/v1/text"
SHOWN = "The file"
PDF_TYPE = "application/pdf"
RETRY_SECONDS = 10  # most PDFs take less


class DocumentText:
    """Answers `POST /v1/text` in place of `app` with the text of the file that is its body.

    gate: has the keys' quotas and the limits of the line. largest: bytes of text. One PDF is read
    at a time; others wait, their bodies still counted by `BodyLimit`, in front.
    """

    def __init__(
        self, app: ASGIApp, gate: Gate, largest: int, refused: Count = ignore_refusal
    ) -> None:
        self.app = app
        self.gate = gate
        self.largest = largest
        self.refused = refused
        self.turn = asyncio.Lock()
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        body: Body | None = scope.get(BODY)
        if body is None or path_of(scope) != PATH:
            await self.app(scope, receive, send)
            return
        async with answering_refusals(scope, receive, send, self.refused):
            with self.gate.aside(key_of(scope)):
                await self._answer(body, scope, receive, send)

    async def _answer(self, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = Headers(scope=scope).get("content-type", "")
        reading = asyncio.ensure_future(self._read(body, content_type))
        leaving = asyncio.ensure_future(body.gone())
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return
            text = reading.result()
        except UsageError as error:
            raise RefusedError(Refusal(400, "unreadable_document", str(error))) from None
        else:
            headers = {"X-Content-Type-Options": "nosniff"}
            await PlainTextResponse(text, headers=headers)(scope, receive, send)
        finally:
            reading.cancel()
            leaving.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    async def _read(self, body: Body, content_type: str) -> str:
        name = "named.pdf" if content_type.lower().startswith(PDF_TYPE) else ""
        content = b"".join(body.chunks)
        if not is_pdf(content, name):
            return await asyncio.to_thread(decoded, content, SHOWN)
        await self._take_turn()
        try:
            return await text_of_pdf_apart(content, SHOWN, self.largest)
        finally:
            self.turn.release()

    async def _take_turn(self) -> None:
        """Waits in line, as long and behind as many others as a request waits for a place."""
        limits = self.gate.limits
        if self.turn.locked() and limits.queued is not None and self.waiting >= limits.queued:
            raise _full()
        self.waiting += 1
        try:
            async with asyncio.timeout(limits.queue_seconds):
                await self.turn.acquire()
        except TimeoutError:
            raise _full() from None
        finally:
            self.waiting -= 1


def _full() -> RefusedError:
    message = "The server has as many PDFs to read as it takes."
    return RefusedError(Refusal(503, "server_full", message, retry_after=RETRY_SECONDS))
