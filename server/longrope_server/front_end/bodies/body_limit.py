"""Reads the body of a request, within limits of size and time.

A pure ASGI piece. It passes the body on chunk by chunk, and puts it into `scope[BODY]`, so that the
pieces behind it know its size before a byte is parsed or tokenised.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.front_end.openai_error import (
    Count,
    Refusal,
    RefusedError,
    answering_refusals,
    ignore_refusal,
)

BODY = "longrope.body"
METHODS = frozenset({"POST", "PUT", "PATCH"})

# In JSON a token of text seldom takes more, and a token id never does: 7 digits and ", ".
BYTES_PER_TOKEN = 16
BYTES_AROUND = 1 << 20
BYTES_OF_MEDIA = 64 << 20  # of images, sound and video: vLLM takes sound of 25 MiB
# A number of a prompt embedding takes 4 bytes in float32, and a third more in base64.
BYTES_PER_EMBEDDED = 6
MOST_BYTES = 1 << 30
LINGER_SECONDS = 2.0


def largest_body(max_model_len: int, has_media: bool = False, embedding: int = 0) -> int:
    """The limit in bytes for a served length in tokens.

    has_media: prompts may have images, sound or video. embedding: the numbers of a prompt's token,
    if prompts may come embedded; a body of more than a GiB needs a limit that someone chose.
    """
    text = max_model_len * BYTES_PER_TOKEN
    embedded = min(max_model_len * embedding * BYTES_PER_EMBEDDED, MOST_BYTES)
    return max(text, embedded) + BYTES_AROUND + (BYTES_OF_MEDIA if has_media else 0)


@dataclass
class Memory:
    """The bytes of all bodies that are held at this moment, and the most that may be."""

    limit: int
    held: int = 0


@dataclass
class Body:
    """The body of one request; `chunks` empties as the application reads it.

    receive: gives the further messages of the connection once the body is whole.
    """

    receive: Receive
    chunks: deque[bytes] = field(default_factory=deque)
    size: int = 0
    whole: bool = False  # its last byte has arrived

    async def gone(self) -> None:
        """Waits for the client to disconnect, once the body is whole."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


class BodyLimit:
    """Answers 413, 408 or 503 in place of `app` if a body is too large, too slow, or one too many.

    limit: bytes of one body. seconds: the time in which all of it must arrive. memory: shared by
    all requests of the process.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit: int,
        seconds: float,
        memory: Memory,
        refused: Count = ignore_refusal,
    ) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds
        self.memory = memory
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] != "http" or scope["method"] not in METHODS:
            await self.app(scope, receive, send)
            return
        body = Body(receive)
        headers = Headers(scope=scope)
        try:
            async with answering_refusals(scope, receive, send, self.refused):
                try:
                    await self._read(body, headers)
                except RefusedError:
                    self._release(body)
                    if not body.whole and (body.size or "expect" not in headers):
                        await _discard(receive)
                    raise
                if body.whole:
                    scope[BODY] = body
                    await self.app(scope, _Replay(body, self.memory), send)
        finally:
            self._release(body)

    def _release(self, body: Body) -> None:
        self.memory.held -= sum(map(len, body.chunks))
        body.chunks.clear()

    async def _read(self, body: Body, headers: Headers) -> None:
        """Reads until the body is whole or the client has left.

        Raises RefusedError if the body exceeds a limit.
        """
        declared = headers.get("content-length", "")
        if declared.isdecimal() and float(declared) > self.limit:  # int() refuses 4,301 digits
            raise self._too_large()
        try:
            async with asyncio.timeout(self.seconds):
                while not body.whole:
                    message = await body.receive()
                    if message["type"] == "http.disconnect":
                        return
                    body.whole = not message.get("more_body")
                    self._take(body, message.get("body", b""))
        except TimeoutError:
            raise _closing(
                408,
                "body_timeout",
                f"The body of the request did not arrive within {self.seconds:g} seconds.",
            ) from None

    def _take(self, body: Body, chunk: bytes) -> None:
        body.size += len(chunk)
        if body.size > self.limit:
            raise self._too_large()
        if self.memory.held + len(chunk) > self.memory.limit:
            raise _closing(
                503,
                "bodies_full",
                "The server holds as many request bodies as it has memory for.",
                retry_after=1,
            )
        if chunk:
            body.chunks.append(chunk)
            self.memory.held += len(chunk)

    def _too_large(self) -> RefusedError:
        return _closing(
            413,
            "body_too_large",
            f"The body of the request is larger than {self.limit:,} bytes, the most that this "
            "server reads (--max-body-bytes).",
        )


class _Replay:
    """`receive` for the application: the body's chunks, then whatever comes next."""

    def __init__(self, body: Body, memory: Memory) -> None:
        self.body = body
        self.memory = memory
        self.done = False

    async def __call__(self) -> Message:
        if self.done:
            return await self.body.receive()
        chunks = self.body.chunks
        chunk = chunks.popleft() if chunks else b""
        self.memory.held -= len(chunk)
        self.done = not chunks
        return {"type": "http.request", "body": chunk, "more_body": not self.done}


def _closing(status: int, code: str, message: str, retry_after: int | None = None) -> RefusedError:
    """A refusal that ends the connection, because the rest of the body is not wanted."""
    headers = {"Connection": "close"}
    return RefusedError(Refusal(status, code, message, retry_after=retry_after, headers=headers))


async def _discard(receive: Receive) -> None:
    """Discards for a moment what still arrives: a client reads no answer while it writes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
