import asyncio
import json
import socket

import httpx
import pytest
from longrope_server.front_end import endable
from longrope_server.front_end.authentication import KEY, revoked
from longrope_server.front_end.endable import Endable, Running
from longrope_server.keys.key_file import Key
from starlette.types import Message, Receive, Scope, Send

from tests.server.asgi import Connection, http_scope, listening, say

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
DOCUMENT = [(b"content-type", b"application/json")]


class Answering:
    """Sends these parts of an answer, then hangs until it is cancelled."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None, *parts: bytes) -> None:
        self.headers = headers
        self.parts = parts
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.headers is not None:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def ended(app: Answering, name: str = "mallory") -> Connection:
    running, connection, reasons = Running(), Connection(), []
    scope = {**http_scope(), KEY: Key(name, b"")}
    piece = Endable(app, running, reasons.append)
    task = asyncio.create_task(piece(scope, connection.receive, connection.send))
    await asyncio.sleep(0.01)
    assert len(running) == 1
    running.end_keys({"mallory"}, revoked())
    async with asyncio.timeout(5):
        await task
    assert app.cancelled
    assert len(running) == 0
    assert reasons == ["key_revoked"]
    return connection


async def test_a_stream_ends_with_an_error_event() -> None:
    connection = await ended(Answering(EVENTS, b"data: {}\n\n"))
    first, error, done, rest = connection.body.split(b"\n\n")
    assert first == b"data: {}"
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "invalid_api_key"
    assert (done, rest) == (b"data: [DONE]", b"")
    assert connection.is_complete


async def test_an_answer_that_has_not_begun_is_the_error() -> None:
    connection = await ended(Answering(None))
    assert connection.status == 401
    assert connection.is_complete


async def test_a_document_breaks_off_and_does_not_look_whole() -> None:
    connection = await ended(Answering(DOCUMENT, b'{"half":'))
    assert connection.body == b'{"half":'
    assert not connection.is_complete


async def test_other_keys_go_on() -> None:
    running, connection = Running(), Connection()
    piece = Endable(Answering(None), running)
    scope = {**http_scope(), KEY: Key("alice", b"")}
    task = asyncio.create_task(piece(scope, connection.receive, connection.send))
    await asyncio.sleep(0)
    running.end_keys({"mallory"}, revoked())
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(running) == 0


async def test_an_applications_own_timeout_is_its_own() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    connection = Connection()
    with pytest.raises(TimeoutError):
        await Endable(slow, Running())(http_scope(), connection.receive, connection.send)


class Stalled(Connection):
    """A client that reads the head of an answer and nothing else."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()
        await super().send(message)


@pytest.mark.parametrize("headers", [EVENTS, DOCUMENT])
async def test_a_client_that_does_not_read_is_ended(
    headers: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("SECONDS_TO_TAKE", "SECONDS_TO_TELL"):
        monkeypatch.setattr(endable, limit, 0.05)
    app, running, client, reasons = Answering(headers, b"part"), Running(), Stalled(), []
    async with asyncio.timeout(5):
        await Endable(app, running, reasons.append)(http_scope(), client.receive, client.send)
    assert len(running) == 0
    assert reasons == ["answer_timeout"]
    assert len(client.sent) == 1


async def test_a_revoked_client_that_does_not_read_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endable, "SECONDS_TO_TELL", 0.05)
    running, client = Running(), Stalled()
    piece = Endable(Answering(EVENTS, b"part"), running)
    task = asyncio.create_task(piece(http_scope(), client.receive, client.send))
    await asyncio.sleep(0.01)
    running.end_all(revoked())
    async with asyncio.timeout(5):
        await task
    assert len(running) == 0


async def test_a_large_answer_is_held_by_its_request() -> None:
    body = bytes(range(256)) * 80_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, body)

    running = Running()
    async with listening(Endable(app, running)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 14)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await asyncio.sleep(0.3)
        assert len(running) == 1
        writer.close()
        async with asyncio.timeout(5):
            while running:
                await asyncio.sleep(0.01)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}")
    assert answer.content == body


async def test_slow_readers_are_served_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a socket: what counts is the time for one part, not for the answer."""
    monkeypatch.setattr(endable, "SECONDS_TO_TAKE", 0.5)
    parts, size = 200, 20_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": DOCUMENT})
        for left in reversed(range(parts)):
            part = {"type": "http.response.body", "body": b"x" * size, "more_body": left > 0}
            await send(part)

    reasons: list[str] = []
    async with listening(Endable(app, Running(), reasons.append)) as port:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        sock.connect(("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 14)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while part := await reader.read(100_000):
            received += len(part)
            await asyncio.sleep(0.005)
        writer.close()
    assert received > parts * size
    assert reasons == []
