"""The ledger's sums are the engine's own counters, through aborts and a `kill -9`."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from longrope_server.keys import key_file, usage_ledger
from longrope_server.keys.key_file import Key
from longrope_server.keys.usage_ledger import Account, Amounts

from tests.plugin.models import TinyModel, give_bytes, tiny_model
from tests.server.faults.traffic import Metrics, Server
from tests.serving import LONGROPE_SERVE, running

KEYS = ("alice", "bob")
CLIENTS = 16
LIMITS = (64, 128, 2048)


@dataclass
class Visitors:
    """Clients of every kind, which note what they were told that they used."""

    server: Server
    model: str
    chance: random.Random
    told: Counter[str] = field(default_factory=Counter)  # by key: generated tokens
    complete: int = 0
    promoted: int = 0  # by their usage
    second_prompts: int = 0  # prompt tokens of second samples, which only vLLM counts
    visits: Counter[str] = field(default_factory=Counter)

    async def visit(self, count: int) -> None:
        """Makes this many requests, CLIENTS at a time."""
        kinds: list[tuple[Callable[[str], Awaitable[None]], float]] = [
            (self.whole, 4),
            (self.stream, 4),
            (self.two_samples, 1),
            (self.leaves_a_stream, 3),
            (self.leaves_a_whole, 3),
            (self.too_long, 0.5),
        ]
        visits, weights = zip(*kinds, strict=True)
        waiting = self.chance.choices(visits, weights, k=count)

        async def client() -> None:
            while waiting:
                kind = waiting.pop()
                self.visits[kind.__name__] += 1
                await kind(self.chance.choice(KEYS))

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    def body(self, longest: int = 150, **more: object) -> dict[str, object]:
        # Often the same beginning: the prefix cache has it.
        tokens = [5] * self.chance.randrange(1, longest)
        return {
            "model": self.model,
            "prompt": [*tokens, self.chance.randrange(10, 200)],
            "max_tokens": self.chance.randrange(1, 100),
            "ignore_eos": True,
            **more,
        }

    async def post(self, key: str, body: dict[str, object], **more: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return await self.server.client.post("/v1/completions", json=body, headers=headers, **more)  # type: ignore[arg-type]

    def note(self, key: str, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        usage: dict[str, Any] = answer.json()["usage"]
        self.told[key] += usage["completion_tokens"]
        self.complete += 1
        self.promoted += usage["factor_set"]["promoted"]
        return usage

    async def whole(self, key: str) -> None:
        self.note(key, await self.post(key, self.body()))

    async def two_samples(self, key: str) -> None:
        """Of a prompt that fills no block, which the second sample would find in the cache."""
        usage = self.note(key, await self.post(key, self.body(longest=12, n=2)))
        self.second_prompts += usage["prompt_tokens"]

    async def stream(self, key: str) -> None:
        answer = await self.post(key, self.body(stream=True))
        assert answer.text.endswith("data: [DONE]\n\n"), answer.text

    async def until_done(self, key: str) -> None:
        """A stream until its last event, of which the connection knows no end yet."""
        body = self.body(stream=True, max_tokens=5)
        headers = {"Authorization": f"Bearer {key}"}
        request = self.server.client.stream("POST", "/v1/completions", json=body, headers=headers)
        async with request as answer:
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    break
        self.told[key] += 5
        self.complete += 1

    async def leaves_a_stream(self, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        body = self.body(stream=True)
        request = self.server.client.stream("POST", "/v1/completions", json=body, headers=headers)
        events = self.chance.randrange(20)
        async with request as answer:
            async for line in answer.aiter_lines():
                events -= line.startswith("data: ")
                if events <= 0:
                    return

    async def leaves_a_whole(self, key: str) -> None:
        try:
            await self.post(key, self.body(), timeout=self.chance.uniform(0.01, 1))
        except httpx.TimeoutException:
            return

    async def too_long(self, key: str) -> None:
        assert (await self.post(key, self.body(prompt=[5] * 3000))).status_code == 400

    async def until_idle(self) -> Metrics:
        """What the server says once nothing is under way. The engine says so at a step: a probe."""
        while True:
            answer = await self.post("alice", self.body(longest=2, max_tokens=1))
            self.note("alice", answer)
            metrics = await self.server.metrics()
            if metrics.idle():
                return metrics
            await asyncio.sleep(0.1)


def in_ledger(accounts: Path) -> Amounts:
    return usage_ledger.total(usage_ledger.read(accounts))


def check(before: Amounts, accounts: Path, metrics: Metrics, second_prompts: int) -> None:
    """What the ledger has more than `before` is what this server's counters say."""
    now = in_ledger(accounts)
    engine = {
        "prompt_tokens": metrics.sum("vllm:prompt_tokens_total") - second_prompts,
        "cached_tokens": metrics.sum("vllm:prompt_tokens_cached_total"),
        "generated_tokens": metrics.sum("vllm:generation_tokens_total"),
    }
    ours = {
        "requests": metrics.sum("longrope_requests_total"),
        "prompt_tokens": metrics.sum("longrope_prompt_tokens_total"),
        "generated_tokens": metrics.sum("longrope_generated_tokens_total"),
    }
    by_key = {name: metrics.sum(f"longrope_key_{name}_total") for name in ours}
    print(f"ledger {now}, before {before}; engine {engine}")
    for counters in (engine, ours, by_key):
        for name, value in counters.items():
            assert getattr(now, name) - getattr(before, name) == value, (name, counters)


@contextmanager
def serving(
    model: TinyModel, directory: Path, log: str, is_killed: bool = False
) -> Iterator[tuple[Server, psutil.Process]]:
    keys = directory / "keys"
    keys.write_text(
        "\n".join(key_file.line_of(Key(name, key_file.digest_of(name))) for name in KEYS)
    )
    flags = (f"--api-key-file={keys}", f"--accounting={directory / 'accounts'}")
    command = (*LONGROPE_SERVE, model.directory, *flags)
    with running(command, directory / log) as started:
        started.exit_status = -signal.SIGKILL if is_killed else 0
        yield Server(started.url, "alice"), started.process


@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.timeout(1500)
async def test_the_ledger_has_what_the_engine_counted(tmp_path: Path, count: int) -> None:
    model = give_bytes(tiny_model(tmp_path / "model", limits=LIMITS))
    accounts = tmp_path / "accounts"
    chance = random.Random(1)

    with serving(model, tmp_path, "first", is_killed=True) as (server, process):
        visitors = Visitors(server, str(model.directory), chance)
        await visitors.visit(count // 2)
        metrics = await visitors.until_idle()
        check(Amounts(), accounts, metrics, visitors.second_prompts)

        # Then it is killed while requests run. Whole answers are in the ledger, the others not.
        before, complete = in_ledger(accounts), visitors.complete
        generated = sum(visitors.told.values())
        await asyncio.gather(*(visitors.whole("alice") for _ in range(8)))
        running_on = [
            asyncio.create_task(visitors.post("bob", visitors.body(longest=2, max_tokens=1500)))
            for _ in range(4)
        ]
        await asyncio.sleep(0.3)
        await visitors.until_done("alice")
        os.killpg(process.pid, signal.SIGKILL)
        killed = await asyncio.gather(*running_on, return_exceptions=True)
        for answer in killed:
            if isinstance(answer, httpx.Response):  # whole before, on a busy machine
                visitors.note("bob", answer)
            else:
                assert isinstance(answer, httpx.TransportError), answer
        await server.client.aclose()
    after = in_ledger(accounts)
    assert after.requests - before.requests == visitors.complete - complete
    assert after.generated_tokens - before.generated_tokens == (
        sum(visitors.told.values()) - generated
    )

    with serving(model, tmp_path, "second") as (server, process):
        again = Visitors(server, str(model.directory), chance)
        await again.visit(count - count // 2)
        check(after, accounts, await again.until_idle(), again.second_prompts)
        headers = {"Authorization": "Bearer bob"}
        usage = (await server.client.get("/v1/usage", headers=headers)).json()
        await server.client.aclose()

    rows = usage_ledger.read(accounts)
    print(visitors.visits + again.visits, *rows, sep="\n")
    assert {account.key for account, _ in rows} == set(KEYS)
    assert {account.factor_set for account, _ in rows} == set(LIMITS)
    total = usage_ledger.total(rows)
    assert total.aborted > 0
    # Streams that nobody read to their end may have been promoted as well.
    assert total.promoted >= visitors.promoted + again.promoted > 0
    bobs = [(account, amounts) for account, amounts in rows if account.key == "bob"]
    assert usage["key"] == "bob"
    assert usage["total"]["generated_tokens"] == usage_ledger.total(bobs).generated_tokens
    assert [Account("bob", row["day"], row["factor_set"]) for row in usage["data"]] == [
        account for account, _ in bobs
    ]
