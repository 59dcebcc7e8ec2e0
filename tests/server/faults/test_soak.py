"""Mixed traffic for SOAK_SECONDS (20 minutes by default): nothing grows."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key

from tests.server.faults.traffic import MODEL, Server, chat, words
from tests.serving import LONGROPE_SERVE, running

SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))
CLIENTS = 10
SAMPLES = 60
GROWTH = 1.02
# A KV cache small enough to be all in use soon: the system counts a page once it is written.
FLAGS = (
    "--max-model-len=4096",
    "--num-gpu-blocks-override=64",
    "--limits.in_flight=6",
    "--limits.queued=4",
    "--max-num-batched-tokens=256",
)


class Visitors:
    """Clients of every kind; each visit is one of them at random."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.visits: Counter[str] = Counter()

    async def keep_visiting(self, seed: int, until: float) -> None:
        chance = random.Random(seed)
        kinds: list[tuple[Callable[[random.Random], Awaitable[int]], float]] = [
            (self.short_chat, 6),
            (self.streamed_chat, 4),
            (self.middling_document, 1),
            (self.leaves_early, 2),
            (self.without_key, 1),
            (self.malformed, 1),
            (self.too_long, 0.2),
        ]
        visits, weights = zip(*kinds, strict=True)
        while time.monotonic() < until:
            [visit] = chance.choices(visits, weights)
            status = await visit(chance)
            self.visits[f"{visit.__name__} {status}"] += 1

    async def short_chat(self, chance: random.Random) -> int:
        body = chat(words(40, chance.randrange(10**6)), chance.randint(1, 12))
        return (await self.server.post(body)).status_code

    async def streamed_chat(self, chance: random.Random) -> int:
        body = {**chat(words(40, chance.randrange(10**6)), chance.randint(1, 12)), "stream": True}
        return (await self.server.post(body)).status_code

    async def middling_document(self, chance: random.Random) -> int:
        body = chat(words(1500, chance.randrange(10**6)), 4)
        return (await self.server.post(body)).status_code

    async def leaves_early(self, chance: random.Random) -> int:
        body = {**chat(words(400, chance.randrange(10**6)), 50), "stream": chance.random() < 0.5}
        with suppress(httpx.TimeoutException):
            await self.server.post(body, timeout=chance.random())
        return 0

    async def without_key(self, chance: random.Random) -> int:
        return (await self.server.post(chat("x", 1), headers={"Authorization": "no"})).status_code

    async def malformed(self, chance: random.Random) -> int:
        return (await self.server.post({"model": MODEL, "messages": chance.random()})).status_code

    async def too_long(self, chance: random.Random) -> int:
        body = {"model": MODEL, "prompt": [chance.randrange(1000)] * 40_000}
        return (await self.server.client.post("/v1/completions", json=body)).status_code


def measured(process: psutil.Process) -> dict[str, tuple[int, int]]:
    """Resident bytes and open files of every process of the server."""
    found = {}
    for server_process in (process, *process.children(recursive=True)):
        name = f"{server_process.name()} {server_process.pid}"
        found[name] = (server_process.memory_info().rss, server_process.num_fds())
    return found


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
async def test_nothing_grows_under_mixed_traffic(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(key_file.line_of(Key("soak", key_file.digest_of("soak"))))
    with running((*LONGROPE_SERVE, *FLAGS, f"--api-key-file={keys}"), tmp_path / "log") as started:
        server = Server(started.url, "soak")
        visitors = Visitors(server)
        until = time.monotonic() + SECONDS
        visiting = [
            asyncio.create_task(visitors.keep_visiting(seed, until)) for seed in range(CLIENTS)
        ]
        samples = []
        for _ in range(SAMPLES):
            await asyncio.sleep(SECONDS / SAMPLES)
            samples.append(measured(started.process))
        await asyncio.gather(*visiting)

        print(f"{SECONDS:.0f} s: {dict(sorted(visitors.visits.items()))}")
        half, end = samples[SAMPLES // 2 : 3 * SAMPLES // 4], samples[3 * SAMPLES // 4 :]
        for name in samples[-1]:
            memory = [median(sample[name][0] for sample in part) for part in (half, end)]
            files = [max(sample[name][1] for sample in part) for part in (half, end)]
            print(
                f"{name}: third quarter {memory[0] / 2**20:.0f} MiB, {files[0]} files at most; "
                f"last quarter {memory[1] / 2**20:.0f} MiB, {files[1]} files"
            )
            assert memory[1] <= GROWTH * memory[0]
            assert files[1] <= files[0] + CLIENTS
        assert (await server.post(chat("probe", 1))).status_code == 200
        metrics = await server.metrics()
        assert metrics.idle(), metrics.text
        await server.client.aclose()
