import asyncio
import json
from types import SimpleNamespace

import pytest
from longrope_server.front_end import takes_requests
from longrope_server.front_end.endable import Endable, Running
from longrope_server.front_end.takes_requests import ServerState, TakesRequests, draining_first

from tests.server.asgi import Connection, answers, body_in, http_scope
from tests.server.test_endable import EVENTS, Answering


def alive(running: Running | None = None) -> ServerState:
    return ServerState(Running() if running is None else running, SimpleNamespace(errored=False))


async def asked(state: ServerState, path: str = "/v1/completions") -> Connection:
    connection = Connection(*body_in([]))
    piece = TakesRequests(answers, state)
    await piece(http_scope(path=path), connection.receive, connection.send)
    return connection


async def test_a_draining_server_refuses_all_but_probes_and_scrapes() -> None:
    state = alive()
    assert (await asked(state)).status == 200
    state.draining = True
    refused = await asked(state)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["connection"] == "close"
    assert json.loads(refused.body)["error"]["code"] == "draining"
    for path in ("/health", "/ready", "/metrics"):
        assert (await asked(state, path)).status == 200


async def test_a_dead_engine_is_no_engine() -> None:
    state = ServerState(Running(), SimpleNamespace(errored=True))
    assert json.loads((await asked(state)).body)["error"]["code"] == "engine_dead"
    assert takes_requests.engine_died()
    assert not ServerState(Running(), None).engine_dead
    assert not takes_requests.engine_died()


@pytest.mark.parametrize("seconds", [5.0, 0.05])
async def test_shutdown_waits_for_what_runs_and_ends_it_when_the_time_is_over(
    seconds: float,
) -> None:
    running = Running()
    state, stopped = alive(running), []
    app, connection = Answering(EVENTS), Connection()
    piece = Endable(app, running)
    request = asyncio.create_task(piece(http_scope(), connection.receive, connection.send))
    await asyncio.sleep(0.01)
    shutdown = draining_first(lambda **_: stopped.append(len(running)), state, seconds)
    draining = asyncio.create_task(asyncio.to_thread(shutdown, timeout=1))
    await asyncio.sleep(0.02)
    assert state.draining
    assert stopped == []
    if seconds > 1:
        request.cancel()
    async with asyncio.timeout(3):
        await draining
    assert stopped == [0]
    if seconds < 1:
        await request
        assert b'"code": "drain_timeout"' in connection.body
    shutdown()  # the loop's own thread, when all is over
    assert stopped == [0, 0]


async def test_shutdown_of_an_idle_server_does_not_wait() -> None:
    state, stopped = alive(), []
    async with asyncio.timeout(1):
        await asyncio.to_thread(draining_first(lambda: stopped.append(1), state, 60.0))
    assert stopped == [1]
