import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from longrope_server.front_end import connections, endable
from longrope_server.front_end.endpoint import LongRoPEEndpoint, in_the_foreground
from longrope_server.front_end.takes_requests import draining_first
from starlette.types import Receive, Scope, Send
from vllm.exceptions import VLLMValidationError

from tests.server.asgi import port_of, say, serving
from tests.server.test_endable import EVENTS
from tests.server.test_front_end import front_end


async def test_a_response_in_the_background_is_refused() -> None:
    async def create(request: SimpleNamespace, raw_request: object) -> str:
        return "answer"

    respond = in_the_foreground(create)
    for background in (False, None):
        assert await respond(SimpleNamespace(background=background), None) == "answer"
    with pytest.raises(VLLMValidationError, match="background is true"):
        await respond(SimpleNamespace(background=True), None)


async def test_a_server_ends_although_a_client_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endable, "SECONDS_TO_TELL", 0.1)
    monkeypatch.setattr(connections, "SECONDS_TO_CLOSE", 1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/ready":
            await say(send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        while True:
            part = {"type": "http.response.body", "body": b": " * 10_000, "more_body": True}
            await send(part)

    plug_in = LongRoPEEndpoint()
    plug_in.app, plug_in.front_end = FastAPI(), front_end(tmp_path)
    with socket.socket() as client:
        async with asyncio.timeout(10), serving(plug_in._around(app)) as server:
            plug_in.app.state.server = server
            client.connect(("127.0.0.1", port_of(server)))
            client.sendall(b"GET /v1/x HTTP/1.1\r\nHost: x\r\nx-api-key: good\r\n\r\n")
            while not plug_in.front_end.running:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # all buffers are full
            await asyncio.to_thread(draining_first(lambda: None, plug_in.front_end.life, 0.1))
            assert not plug_in.front_end.running
