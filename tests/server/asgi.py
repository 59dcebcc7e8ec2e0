"""Small applications and connections to try one piece alone."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def http_scope(method: str = "POST", path: str = "/v1/x", **headers: str) -> Scope:
    """A request; header names with underscores for dashes."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": raw, "root_path": ""}


class Connection:
    """A client that sends `messages`, then waits until it is told to leave."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.gone = asyncio.Event()
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> httpx.Headers:
        return httpx.Headers(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body")


def body_in(chunks: Iterable[bytes]) -> list[Message]:
    """The messages of a body that comes in these chunks."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    return [*messages, {"type": "http.request", "body": b"", "more_body": False}]


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    return body


async def say(send: Send, body: bytes = b"ok", **start: Any) -> None:
    """A whole answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [], **start})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the body and says 'ok'."""
    await read_body(receive)
    await say(send)


@asynccontextmanager
async def listening(app: ASGIApp, http: str = "httptools") -> AsyncIterator[int]:
    """The port of 127.0.0.1 on which uvicorn serves `app` in this loop."""
    async with serving(app, http) as server:
        yield port_of(server)


@asynccontextmanager
async def serving(app: ASGIApp, http: str = "httptools") -> AsyncIterator[uvicorn.Server]:
    """The uvicorn that serves `app` in this loop; it has ended at the end of the block."""
    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_level="critical")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await running


def port_of(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])
