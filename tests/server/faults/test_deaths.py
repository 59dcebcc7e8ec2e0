"""The engine, or a worker of it, is killed."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.faults.traffic import Server, chat, error_of
from tests.serving import LONGROPE_SERVE, WITH_WORKER, running
from tests.serving import Server as Started


def named(part: str) -> Callable[[psutil.Process], bool]:
    return lambda process: any(part in word for word in process.cmdline())


async def test_streams_end_with_an_error_and_the_server_exits(dying_server: Started) -> None:
    await assert_it_ends_with("EngineCore", dying_server)


@pytest.mark.slow
async def test_a_worker_takes_the_server_with_it_too(tmp_path: Path) -> None:
    with running(LONGROPE_SERVE, tmp_path / "log", **WITH_WORKER) as started:
        started.exit_status = 1
        await assert_it_ends_with("VLLM::Worker", started)


async def assert_it_ends_with(victim: str, started: Started) -> None:
    """Kills a process of the server while streams run; each must end with an error."""
    server = Server(started.url)

    async def read() -> list[str]:
        async with server.stream(chat("Tell a long story", 2000)) as lines:
            return [line async for line in lines]

    streams = [asyncio.create_task(read()) for _ in range(4)]
    whole = asyncio.create_task(server.post(chat("Another", 2000)))
    while (await server.metrics()).sum("vllm:num_requests_running") < 5:
        await asyncio.sleep(0.1)
    [process] = filter(named(victim), started.process.children(recursive=True))
    process.kill()
    killed = time.monotonic()
    for lines in await asyncio.gather(*streams):
        assert error_of(lines) is not None
    answer = await whole
    assert answer.status_code >= 500
    assert "error" in answer.json()
    with contextlib.suppress(httpx.ConnectError):
        assert (await server.client.get("/ready")).status_code == 503
    while started.process.is_running() and started.process.status() != "zombie":
        assert time.monotonic() - killed < 30
        await asyncio.sleep(0.1)
    print(f"{victim} killed: the server was gone {time.monotonic() - killed:.1f} s later")
    assert "the engine died" in started.log.read_text()
