"""A wrong value in every field of every route: refused in a sentence, and the server goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.plugin.models import give_words, tiny_model
from tests.server.faults.raw_socket import Answer, exchange, post
from tests.server.faults.wrong_values import CHAT, Case, cases
from tests.serving import LONGROPE_SERVE, Server, running

FEW = 400
AT_ONCE = 12
STREAMED = 0.3  # of the requests
# Read as no limit they let a model generate to the end of the served length: let that be near.
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
FLAGS = ("--max-model-len=128", "--enable-auto-tool-choice", "--tool-call-parser=hermes")
COMPLETE = (
    b"data: [DONE]",
    b'"type":"response.completed"',
    b'"type":"response.incomplete"',
    b'"type":"message_stop"',
)
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}'


@pytest.fixture
def server(embedded_server: Server) -> Server:
    return embedded_server


@pytest.fixture
def short_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wrong")
    model = give_words(tiny_model(folder / "model", vocab_size=49152))
    with running((*LONGROPE_SERVE, model.directory, *FLAGS), folder / "log") as server:
        yield server


def port_of(server: Server) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


def complaint(answer: Answer) -> str:
    """What is wrong with an answer to a wrong value; '' where nothing is."""
    if not 200 <= answer.status < 500:
        return f"status {answer.status}: {answer.body[-300:]!r}"
    errors = answer.errors()
    if answer.status >= 400 and len(errors) != 1:
        return f"status {answer.status} without an error: {answer.body[:300]!r}"
    for error in errors:
        if not error.get("message") or error.get("type") == "server_error":
            return f"no sentence, or the server's fault: {error}"
        if error.get("code") in range(500, 600):
            return f"the server's fault: {error}"
    if answer.is_stream and not errors and not any(end in answer.body for end in COMPLETE):
        return f"a stream without an end: {answer.body[-300:]!r}"
    return ""


async def complaints(server: Server, given: list[Case]) -> list[str]:
    """Sends all cases, several at once, some of them streamed."""
    port = port_of(server)
    chance = random.Random(2)
    statuses: Counter[str] = Counter()
    found = []
    left = iter(given)

    async def send() -> None:
        for case in left:
            body = case.body
            if case.field != "stream" and chance.random() < STREAMED:
                body = b'{"stream": true, ' + body[1:]
            answer = await exchange(port, post(case.path, body))
            statuses[f"{answer.status}{' streamed' if answer.is_stream else ''}"] += 1
            if said := complaint(answer):
                found.append(f"{case}: {said}")

    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    print(f"{len(given)} requests: {dict(sorted(statuses.items()))}")
    return found


def all_cases(server: Server) -> list[Case]:
    found = list(cases(httpx.get(f"{server.url}/openapi.json", timeout=60).json()))
    random.Random(1).shuffle(found)
    return found


async def assert_it_answers(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answer = await client.post("/v1/chat/completions", json={"messages": CHAT, "max_tokens": 2})
        assert answer.status_code == 200, answer.text
        metrics = (await client.get("/metrics")).text
    assert 'vllm:num_requests_running{engine="0"' in metrics
    for line in metrics.splitlines():
        if line.startswith(("longrope_requests_in_flight{", "longrope_requests_queued{")):
            assert float(line.rpartition(" ")[2]) == 0, line


async def test_some_wrong_values_in_fields_of_every_route(server: Server) -> None:
    limited = [case for case in all_cases(server) if case.field not in LIMITS]
    assert await complaints(server, limited[:FEW]) == []
    await assert_it_answers(server)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_every_wrong_value_in_every_field_of_every_route(short_server: Server) -> None:
    assert await complaints(short_server, all_cases(short_server)) == []
    await assert_it_answers(short_server)


def header(line: bytes) -> bytes:
    return post("/v1/chat/completions", BODY, JSON + line + b"\r\n")


def get(target: bytes) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("/v1/chat/completions", BODY.decode().encode("utf-16")), 400),
        (post("/v1/chat/completions", BODY, b"Content-Type: ;;=\xff\r\n"), 400),
        (post("/v1/chat/completions", b""), 400),
        (post("/invocations", b"[" * 2000), 400),
        (post("/invocations", b"{"), 400),
        (post("/invocations", b"null"), 400),
        (post("/v1/responses/%ED%A0%80/cancel", b""), 404),
        (get(b"/v1/responses/%00?starting_after=" + b"9" * 400), 404),
        (get(b"/v1/responses/x?stream=%ED%A0%80&starting_after=NaN"), 400),
        (get(b"/" + b"a/" * 3000), 404),
        (get(b"/v1/completions"), 405),
        (header(b"X-Request-Id: \xff\xed\xa0\x80"), 200),
        (header(b"X-data-parallel-rank: " + b"9" * 400), 400),
        (header(b"X-data-parallel-rank: \xc2\xb2"), 200),
        (header(b"X-Vllm-Priority: " + b"9" * 400), 400),
        (header(b"X-Session-ID: " + b"\xff" * 1000), 200),
        (header(b"traceparent: \xff"), 200),
    ],
    ids=lambda given: repr(given[:60]) if isinstance(given, bytes) else str(given),
)
async def test_odd_heads_and_encodings(server: Server, request_bytes: bytes, status: int) -> None:
    answer = await exchange(port_of(server), request_bytes)
    assert answer.status == status, answer.body
    assert complaint(answer) == ""


CHOICE = {"structured_outputs": {"choice": ["zebra"]}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "constraints",
    [
        {**CHOICE, "allowed_token_ids": [5]},
        {**CHOICE, "bad_words": ["z", "ze", "zeb", "zebra"], "allowed_token_ids": [6]},
        {"structured_outputs": {"regex": "[^\\s\\S]"}},
        {"structured_outputs": {"grammar": "root ::= root"}},
        {"structured_outputs": {"json": {"$ref": "#"}}},
        {"structured_outputs": {"json": {"type": "array", "minItems": 10**6, "maxItems": 0}}},
    ],
    ids=str,
)
async def test_constraints_that_leave_no_token(
    server: Server, constraints: dict[str, object], stream: bool
) -> None:
    body = {"messages": CHAT, "max_tokens": 5, "temperature": 0, "stream": stream, **constraints}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    got = Answer(answer.status_code, answer.headers["content-type"], answer.content)
    [error] = got.errors()
    assert answer.status_code == 400 or stream
    assert error["code"] == 400
    assert complaint(got) == ""


@pytest.mark.parametrize("length_penalty", [1e308, -1e308, 5e5, -400])
async def test_a_length_penalty_that_no_float_holds(server: Server, length_penalty: float) -> None:
    beams = {"use_beam_search": True, "n": 2, "length_penalty": length_penalty}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        body = {"messages": CHAT, "max_tokens": 2, **beams}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
