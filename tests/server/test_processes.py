"""Several API processes are one server: its tokens, counters, accounts and keys, and its end."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from longrope_server.keys import key_file, usage_ledger
from longrope_server.keys.key_file import Key
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.plugin.models import give_bytes, tiny_model
from tests.plugin.reference import Reference
from tests.server.faults import traffic
from tests.serving import LONGROPE_SERVE, WITH_WORKER, Server, running

# vLLM starts as many API processes as engines.
FLAGS = ("--data-parallel-size=2", "--dtype=float32")
PROMPTS = [
    [3 + (7 * request + n * n) % 500 for n in range(40 + 12 * request)] for request in range(6)
]
NEW_TOKENS = 100  # each request is promoted, and the first ones twice


def samples(text: str, name: str) -> list[Sample]:
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples if sample.name == name]


def total(text: str, name: str) -> float:
    return sum(sample.value for sample in samples(text, name))


def key_line(name: str, key: str) -> str:
    return key_file.line_of(Key(name, key_file.digest_of(key)))


def expect_accounts(directory: Path, server: Server) -> None:
    """Whichever process answers, the ledger and the request log have all requests once."""
    deadline = time.monotonic() + 10  # both processes write once a second
    while (total_used := usage_ledger.total(usage_ledger.read(directory))).requests < len(PROMPTS):
        assert time.monotonic() < deadline, total_used
        time.sleep(0.2)
    for _ in range(6):
        answer = httpx.get(f"{server.url}/v1/usage", headers={"Authorization": "Bearer alice"})
        assert answer.json()["total"] == asdict(total_used)
    assert total_used.requests == total_used.promoted == len(PROMPTS)
    assert total_used.prompt_tokens == sum(map(len, PROMPTS))
    assert total_used.generated_tokens == len(PROMPTS) * NEW_TOKENS
    lines = [json.loads(line) for line in (directory / "requests.jsonl").read_text().splitlines()]
    completions = [line for line in lines if line["path"] == "/v1/completions"]
    assert sorted(line["prompt_tokens"] for line in completions) == sorted(map(len, PROMPTS))
    assert {line["key"] for line in completions} == {"alice"}


def complete_all(
    server: Server, prompts: Sequence[list[int]], key: str = "alice"
) -> list[httpx.Response]:
    """All prompts at once, each over a connection of its own, which either process may accept."""

    async def complete(prompt: list[int]) -> httpx.Response:
        async with httpx.AsyncClient(timeout=300) as client:
            return await client.post(
                f"{server.url}/v1/completions",
                json={
                    "prompt": prompt,
                    "max_tokens": NEW_TOKENS,
                    "temperature": 0,
                    "ignore_eos": True,
                    "return_token_ids": True,
                },
                headers={"Authorization": f"Bearer {key}"},
            )

    async def complete_each() -> list[httpx.Response]:
        return await asyncio.gather(*map(complete, prompts))

    return asyncio.run(complete_each())


@pytest.mark.slow
def test_two_engines_and_two_api_processes(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{key_line('ops', 'ops')}\n{key_line('alice', 'alice')}\n")
    model = give_bytes(tiny_model(tmp_path / "model"))
    accounts = tmp_path / "accounts"
    flags = (*FLAGS, f"--api-key-file={keys}", f"--accounting={accounts}")
    command = (*LONGROPE_SERVE, model.directory, *flags)
    with running(command, tmp_path / "log", **WITH_WORKER) as server:
        reference = Reference(model.directory, model.factor_file)
        for prompt, answer in zip(PROMPTS, complete_all(server, PROMPTS), strict=True):
            assert answer.status_code == 200, answer.text
            (choice,) = answer.json()["choices"]
            reference.expect(prompt, choice["token_ids"])
            assert answer.json()["usage"]["factor_set"]["promoted"]
        ops = {"Authorization": "Bearer ops"}
        for _ in range(6):  # each process says the same
            text = httpx.get(f"{server.url}/metrics", headers=ops).text
            assert total(text, "longrope_requests_total") == len(PROMPTS)
            assert total(text, "longrope_generated_tokens_total") == len(PROMPTS) * NEW_TOKENS
            assert total(text, "vllm:generation_tokens_total") == len(PROMPTS) * NEW_TOKENS
            assert total(text, "longrope_tokens_in_flight") == 0
        by_engine = Counter[str]()
        for sample in samples(text, "vllm:request_success_total"):
            by_engine[sample.labels["engine"]] += int(sample.value)
        assert set(by_engine) == {"0", "1"}
        assert all(by_engine.values())
        expect_accounts(accounts, server)

        keys.write_text(f"{key_line('ops', 'ops')}\n")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(2)
        assert {answer.status_code for answer in complete_all(server, [[5]] * 12)} == {401}


@pytest.mark.slow
async def test_each_process_tells_its_clients_that_the_time_is_over(tmp_path: Path) -> None:
    command = (*LONGROPE_SERVE, "--api-server-count=2", "--drain-timeout=2")
    with running(command, tmp_path / "log") as server:

        async def read(number: int) -> list[str]:
            story = traffic.chat(f"Tell long story {number}", 20_000)
            async with traffic.Server(server.url).stream(story) as lines:
                return [line async for line in lines]

        streams = [asyncio.create_task(read(number)) for number in range(8)]
        client = traffic.Server(server.url)
        while (await client.metrics()).sum("vllm:num_requests_running") < len(streams):
            await asyncio.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        for lines in await asyncio.gather(*streams):
            error = traffic.error_of(lines)
            assert error is not None
            assert error["code"] == "drain_timeout"
            assert "data: [DONE]" in lines
