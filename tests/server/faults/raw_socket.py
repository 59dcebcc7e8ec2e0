"""Requests as bytes on a socket, and the whole of what comes back."""

import asyncio
import http.client
import io
import json
from dataclasses import dataclass
from typing import Any, cast

SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """A whole answer; status 0 where the connection ended without one."""

    status: int
    kind: str
    body: bytes

    @property
    def is_stream(self) -> bool:
        return self.kind.startswith("text/event-stream")

    def errors(self) -> list[dict[str, Any]]:
        """The `error` objects in it: one of a refusal, those of a stream's events."""
        if self.is_stream:
            lines = self.body.decode().splitlines()
            data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
            documents = [json.loads(line) for line in data]
        else:
            documents = [json.loads(self.body)] if self.body else []
        found = []
        for document in documents:
            if isinstance(document, dict):
                inner = document.get("response") or {}  # of the Responses API's last event
                found += [document.get("error"), inner.get("error")]
        return [error for error in found if error]


async def exchange(port: int, request: bytes) -> Answer:
    """What the server on `port` of 127.0.0.1 answers until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(SECONDS):
            received = await reader.read()
    except ConnectionError:
        received = b""
    finally:
        writer.close()
    return _parsed(received)


def post(path: str, body: bytes, headers: bytes = b"Content-Type: application/json\r\n") -> bytes:
    """A POST after which the server closes the connection."""
    lines = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n"
    return lines % (path.encode(), len(body)) + headers + b"\r\n" + body


def _parsed(received: bytes) -> Answer:
    class Received:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(received)

    response = http.client.HTTPResponse(cast(Any, Received()))
    try:
        response.begin()
        body = response.read()
    except http.client.HTTPException:
        return Answer(0, "", received)
    return Answer(response.status, response.headers.get("content-type", ""), body)
