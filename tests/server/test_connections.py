import asyncio
import socket

import pytest
from longrope_server.front_end import connections
from starlette.types import Receive, Scope, Send

from tests.server.asgi import port_of, say, serving


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has the option")
async def test_the_end_of_an_answer_that_nobody_reads_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"x" * 20_000_000)

    monkeypatch.setattr(connections, "SECONDS_TO_READ", 1)
    async with serving(app) as server:
        connections.end_unread(server)
        with socket.create_connection(("127.0.0.1", port_of(server))) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                while not server.server_state.connections:
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                while server.server_state.connections:
                    await asyncio.sleep(0.05)
