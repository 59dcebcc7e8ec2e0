"""One server with limits for 8, and everything that clients do to it."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from longrope_server.front_end.bodies.body_limit import largest_body
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key

from tests.server.faults.traffic import MODEL, Server, chat, error_of, is_complete, words
from tests.serving import LONGROPE_SERVE, running

IN_FLIGHT = QUEUED = 8
BODY_SECONDS = 4
SERVED_LENGTH = 32_768
FLAGS = (
    f"--limits.in_flight={IN_FLIGHT}",
    f"--limits.queued={QUEUED}",
    f"--body-timeout={BODY_SECONDS}",
    "--max-num-batched-tokens=256",  # short steps: what a client left is free soon
)


class Started:
    """The server's process, address and key file."""

    def __init__(self, url: str, process: psutil.Process, file: Path, log: Path) -> None:
        self.url = url
        self.process = process
        self.file = file
        self.log = log

    def add_key(self, name: str) -> str:
        """A new key, which the server knows when this returns."""
        token = f"secret-of-{name}"
        line = key_file.line_of(Key(name, key_file.digest_of(token)))
        self.write_keys([*self.file.read_text().splitlines(), line])
        return token

    def write_keys(self, lines: list[str]) -> None:
        self.file.write_text("\n".join(lines))
        before = self.log.read_text().count("Keys were read again")
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.log.read_text().count("Keys were read again") == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    directory = tmp_path_factory.mktemp("crowds")
    file = directory / "keys"
    file.write_text(key_file.line_of(Key("first", key_file.digest_of("first"))))
    command = (*LONGROPE_SERVE, *FLAGS, f"--api-key-file={file}")
    with running(command, directory / "log") as server:
        yield Started(server.url, server.process, file, directory / "log")


@pytest.fixture
async def server(started: Started) -> AsyncIterator[Server]:
    """A client of the server; on the way out nothing may be left of what the test did."""
    server = Server(started.url, "first")
    yield server
    await until_idle(server)
    await server.client.aclose()


async def until_idle(server: Server) -> float:
    """Seconds until nothing is under way. The engine says so at its next step: a probe is one."""
    began = time.monotonic()
    while True:
        assert (await server.post(chat("probe", 1))).status_code in (200, 503)
        if (await server.metrics()).idle():
            return time.monotonic() - began
        assert time.monotonic() - began < 60, (await server.metrics()).text


async def test_200_clients_at_once_against_limits_for_8(server: Server) -> None:
    most = 0
    asking = True

    async def look() -> None:
        nonlocal most
        while asking:
            metrics = await server.metrics()
            most = max(most, int(metrics.sum("longrope_requests_in_flight")))
            assert metrics.sum("longrope_requests_queued") <= QUEUED
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    answers = await asyncio.gather(*(server.post(chat(f"{n}", 4)) for n in range(200)))
    asking = False
    await looking
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    print(f"{len(served)} served, {len(refused)} refused, at most {most} in flight")
    assert len(served) + len(refused) == 200
    assert len(served) >= IN_FLIGHT + QUEUED
    assert most <= IN_FLIGHT
    for answer in refused:
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["code"] == "server_full"


async def test_the_openai_sdk_comes_back_until_all_are_served(server: Server) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=60)
    async with client:
        asked = (
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": f"{n}"}], max_tokens=2
            )
            for n in range(40)
        )
        answers = await asyncio.gather(*asked)
    assert len(answers) == 40


async def test_slow_bodies_take_no_place(server: Server) -> None:
    async def drip(chunked: bool) -> bytes:
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "1000"}
        async with server.connected("/v1/completions", framing) as (reader, writer):
            answer = asyncio.create_task(reader.readuntil(b"}}"))
            while not answer.done():
                writer.write(b"1\r\n{\r\n" if chunked else b"{")
                await asyncio.sleep(0.3)
            return await answer

    dripping = [asyncio.create_task(drip(bool(n % 2))) for n in range(100)]
    await asyncio.sleep(1)
    assert (await server.post(chat("In between", 2))).status_code == 200
    for answer in await asyncio.gather(*dripping):
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"body_timeout"' in answer


async def test_clients_that_leave_free_everything(server: Server) -> None:
    prompts = itertools.count(1000)

    @asynccontextmanager
    async def asking(stream: bool = True, sent: float = 1.0) -> AsyncIterator[None]:
        """Inside, this share of a request of 6,000 tokens was sent; then the client is gone."""
        body = json.dumps(chat(words(6000, next(prompts)), 200, stream=stream)).encode()
        head = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        async with server.connected("/v1/chat/completions", head) as (_, writer):
            writer.write(body[: int(len(body) * sent)])
            await writer.drain()
            yield

    async def until(name: str, value: int) -> None:
        while (await server.metrics()).sum(name) != value:
            await asyncio.sleep(0.02)

    async def free(stage: str) -> None:
        print(f"{stage}: everything free {await until_idle(server):.2f} s after the client left")

    async with asking(sent=0.5):
        await asyncio.sleep(0.1)
    await free("in the body")
    async with asking():
        pass
    await free("at once")
    for stream in (True, False):
        async with asking(stream):
            await until("vllm:num_requests_running", 1)
            await asyncio.sleep(1)
        await free(f"in a prefill, {stream=}")
    async with server.stream(chat("A story", 200)) as lines:
        async for _ in lines:
            break
    await free("in the answer")
    async with AsyncExitStack() as in_flight:
        for _ in range(IN_FLIGHT):
            await in_flight.enter_async_context(asking())
        await until("longrope_requests_in_flight", IN_FLIGHT)
        async with asking(), asking(stream=False):
            await until("longrope_requests_queued", 2)
        await until("longrope_requests_queued", 0)
    await free("in flight")
    metrics = await server.metrics()
    assert metrics.sum("longrope_refusals_total", reason="client_left_queue") == 2
    assert metrics.sum("longrope_requests_total", finish_reason="cancelled") >= 3


async def test_a_full_queue_refuses_before_it_reads_a_prompt(server: Server) -> None:
    holding = [
        asyncio.create_task(server.post(chat(words(3000, seed=2 + n), 1)))
        for n in range(IN_FLIGHT + QUEUED)
    ]
    while (await server.metrics()).sum("longrope_requests_queued") < QUEUED:
        await asyncio.sleep(0.05)
    prompts = (await server.metrics()).sum("longrope_prompt_tokens_total")
    answer = await server.post(chat("One more", 1))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert (await server.metrics()).sum("longrope_prompt_tokens_total") - prompts < 8 * 3200
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)


async def test_a_revoked_key_ends_its_stream_with_an_error(started: Started) -> None:
    others = started.file.read_text().splitlines()
    revoked = Server(started.url, started.add_key("mallory"))
    kept = Server(started.url, "first")

    async def read(server: Server, tokens: int) -> list[str]:
        async with server.stream(chat("Tell a long story", tokens)) as lines:
            return [line async for line in lines]

    streams = [asyncio.create_task(read(revoked, 2000)), asyncio.create_task(read(kept, 40))]
    while (await kept.metrics()).sum("longrope_generated_tokens_total") == 0:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    started.write_keys(others)
    cut, whole = await asyncio.gather(*streams)
    error = error_of(cut)
    assert error is not None
    assert error["code"] == "invalid_api_key"
    assert cut[-2:] == ["data: [DONE]", ""] or cut[-1] == "data: [DONE]"
    assert is_complete(whole)
    refused = await revoked.post(chat("And now?", 1))
    assert refused.status_code == 401
    assert "secret-of-mallory" not in refused.text + started.log.read_text()
    await until_idle(kept)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_one_byte_over_the_limit(server: Server, chunked: bool) -> None:
    limit = largest_body(SERVED_LENGTH)
    start = json.dumps(chat("x", 1))[:-1].encode() + b', "user": "'

    async def send(size: int) -> httpx.Response:
        body = start + b"u" * (size - len(start) - 2) + b'"}'
        assert len(body) == size

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, size, 100_000):
                yield body[at : at + 100_000]

        return await server.client.post(
            "/v1/chat/completions",
            content=pieces() if chunked else body,
            headers={"Content-Type": "application/json"},
        )

    assert (await send(limit)).status_code == 200
    over = await send(limit + 1)
    assert over.status_code == 413
    assert over.json()["error"]["code"] == "body_too_large"
    assert f"{limit:,} bytes" in over.json()["error"]["message"]


async def test_a_prompt_that_is_too_long_is_told_its_length(server: Server) -> None:
    prompt = [5] * (SERVED_LENGTH + 7)
    for body in ({"prompt": prompt}, {"prompt": " a" * len(prompt)}):
        answer = await server.client.post("/v1/completions", json={"model": MODEL, **body})
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert f"{SERVED_LENGTH} tokens" in message
        assert f"contains {len(prompt)} input tokens" in message


async def test_what_was_asked_is_neither_logged_nor_told_in_errors(
    server: Server, started: Started
) -> None:
    secret = "xyzzy-plugh-4711"
    wrong = [
        {"model": MODEL, "messages": [{"role": "user", "content": {"text": secret}}]},
        {"model": MODEL, "messages": secret},
        {**chat(secret, 1), "temperature": secret},
        {**chat(secret, 1), "response_format": {"type": secret}},
        chat(secret * 20_000, 1),
    ]
    for body in wrong:
        answer = await server.post(body)
        assert answer.status_code == 400
        assert secret not in answer.text, body
    answer = await server.client.post("/v1/chat/completions", content=f'{{"{secret}":')
    assert answer.status_code in (400, 415)
    assert secret not in answer.text
    unknown = {"Authorization": f"Bearer {secret}"}
    answer = await server.client.get("/v1/models", headers=unknown)
    assert answer.status_code == 401
    assert secret not in answer.text
    assert (await server.post(chat(secret, 1))).status_code == 200
    assert secret not in started.log.read_text()


async def test_sigterm_under_load_loses_nothing_that_was_accepted(started: Started) -> None:
    """The last test of this server: the fixture then checks exit status 0 and no process left."""
    server = Server(started.url, "first")

    async def ask(number: int) -> list[str] | int:
        body = {**chat(f"Story {number}", 30), "stream": True}
        while True:
            try:
                async with server.client.stream("POST", "/v1/chat/completions", json=body) as got:
                    lines = [line async for line in got.aiter_lines()]
                    if got.status_code == 200 or "draining" in "".join(lines):
                        return lines if got.status_code == 200 else 503
            except httpx.ConnectError:
                return 0

    async def keep_asking(number: int) -> list[list[str] | int]:
        answers = []
        while True:
            answers.append(await ask(number))
            if isinstance(answers[-1], int):
                return answers

    asking = [asyncio.create_task(keep_asking(number)) for number in range(IN_FLIGHT + 6)]
    await asyncio.sleep(4)
    started.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert (await server.client.get("/ready")).status_code == 503
    assert (await server.client.get("/health")).status_code == 200
    answers = [
        answer for client_answers in await asyncio.gather(*asking) for answer in client_answers
    ]
    accepted = [answer for answer in answers if not isinstance(answer, int)]
    print(f"{len(accepted)} accepted, {len(answers) - len(accepted)} refused")
    assert len(accepted) >= IN_FLIGHT
    assert all(map(is_complete, accepted))
    await server.client.aclose()
