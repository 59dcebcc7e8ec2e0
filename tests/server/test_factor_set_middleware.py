"""The middleware in front of a small ASGI application; no server and no engine."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_server.front_end.factor_set.answer import HEADER, EngineRequest, current_answer
from longrope_server.front_end.factor_set.factor_set_middleware import FactorSetMiddleware
from starlette.types import Message, Receive, Scope, Send

from tests.server.models import Selection

SELECTION = Selection(8, 16, 32)
FACTOR_SET = {"started": 8, "finished": 16, "promoted": True}
Body = Callable[[Send], Coroutine[Any, Any, None]]


def note_request(prompt: int = 5, generated: int = 10) -> None:
    answer = current_answer.get()
    assert answer is not None
    request = EngineRequest(SELECTION, prompt, SELECTION.start(prompt, None))
    request.add(0, generated, cumulative=False)
    answer.requests.append(request)


def call(body: Body, method: str = "POST") -> list[Message]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await body(send)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(FactorSetMiddleware(app)({"type": "http", "method": method}, receive, send))
    assert current_answer.get() is None
    return sent


def start(kind: str, **headers: str) -> Message:
    pairs = {"content-type": kind, **headers}
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
    }


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def header(message: Message) -> str | None:
    return dict(message["headers"]).get(HEADER.encode(), b"").decode() or None


def content(messages: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("cuts", [[], [1], [3, 9]])
def test_a_json_answer_gets_header_usage_and_length(cuts: list[int]) -> None:
    before = compact({"a": "é", "usage": {"prompt_tokens": 5}, "b": [1]})
    after = compact({"a": "é", "usage": {"prompt_tokens": 5, "factor_set": FACTOR_SET}, "b": [1]})

    async def body(send: Send) -> None:
        note_request()
        await send(start("application/json", **{"content-length": str(len(before))}))
        edges = [0, *cuts, len(before)]
        for a, b in itertools.pairwise(edges):
            await send(part(before[a:b], more=b < len(before)))

    head, *rest = call(body)
    assert header(head) == "8"
    assert dict(head["headers"])[b"content-length"] == str(len(after)).encode()
    assert content(rest) == after


def test_answers_without_the_engine_pass_as_they_are() -> None:
    messages = [start("application/json"), part(b'{"usage":{}}', more=False)]

    async def body(send: Send) -> None:
        for message in messages:
            await send(message)

    assert call(body) == messages


def test_an_error_keeps_its_body() -> None:
    async def body(send: Send) -> None:
        note_request()
        await send(start("application/json", **{"content-length": "16"}))
        await send(part(b'{"error":"usage"}', more=False))

    head, rest = call(body)
    assert header(head) == "8"
    assert rest["body"] == b'{"error":"usage"}'
    assert dict(head["headers"])[b"content-length"] == b"16"


def test_vectors_sent_as_bytes_have_their_usage_in_a_header() -> None:
    metadata = {"model": "x", "data": [{"index": 0}], "usage": {"prompt_tokens": 5}}
    changed = {**metadata, "usage": {"prompt_tokens": 5, "factor_set": FACTOR_SET}}

    async def body(send: Send) -> None:
        note_request()
        await send(start("application/octet-stream", metadata=json.dumps(metadata)))
        await send(part(b"\x00\xff", more=False))

    head, rest = call(body)
    assert header(head) == "8"
    assert json.loads(dict(head["headers"])[b"metadata"]) == changed
    assert rest["body"] == b"\x00\xff"


def test_a_websocket_says_it_in_its_usage() -> None:
    events = [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": '{"type":"session.created","usage":null}'},
        {"type": "websocket.send", "text": '{"type":"transcription.done","usage":{"a":1}}'},
        {"type": "websocket.send", "bytes": b'{"usage":{}}'},
        {"type": "websocket.close"},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        note_request()
        for event in events:
            await send(event)

    async def receive() -> Message:
        return {"type": "websocket.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(FactorSetMiddleware(app)({"type": "websocket"}, receive, send))
    changed = {"type": "transcription.done", "usage": {"a": 1, "factor_set": FACTOR_SET}}
    assert json.loads(sent[2]["text"]) == changed
    assert [*sent[:2], *sent[3:]] == [*events[:2], *events[3:]]


def test_get_is_not_looked_at() -> None:
    messages = [start("text/event-stream"), part(b'data: {"usage":{}}\n\n', more=False)]

    async def body(send: Send) -> None:
        assert current_answer.get() is None
        for message in messages:
            await send(message)

    assert call(body, method="GET") == messages


def event(value: Any) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"usage":{', "usage", '\\"usage":{', "data: x\n\ndata: ", "[DONE]", "\u2028"]
)


@settings(deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=5),
    asked=st.booleans(),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    data=st.data(),
)
def test_a_stream_cut_anywhere_differs_in_its_usage_only(
    texts: list[str], asked: bool, newline: bytes, data: st.DataObject
) -> None:
    chunks = [event({"choices": [{"delta": {"content": text}}]}) for text in texts]
    usage: dict[str, Any] = {"prompt_tokens": 5}
    last = [b": keep-alive\n\n", b"data: [DONE]\n\n"]
    used = event({"choices": [], "usage": usage, "x": 1})
    changed = event({"choices": [], "usage": {**usage, "factor_set": FACTOR_SET}, "x": 1})
    before = b"".join([*chunks, *([used] if asked else []), *last]).replace(b"\n", newline)
    after = b"".join([*chunks, *([changed] if asked else []), *last]).replace(b"\n", newline)
    cuts = data.draw(st.lists(st.integers(0, len(before)), max_size=6))

    async def body(send: Send) -> None:
        note_request()
        await send(start("text/event-stream; charset=utf-8"))
        edges = [0, *sorted(cuts), len(before)]
        for a, b in itertools.pairwise(edges):
            await send(part(before[a:b]))
        await send(part(b"", more=False))

    head, *rest = call(body)
    assert header(head) == "8"
    assert content(rest) == after
    assert rest[-1]["more_body"] is False


def test_ordinary_chunks_are_sent_as_they_come() -> None:
    chunk = part(event({"choices": [{"delta": {"content": "x"}}]}))
    sent: list[Message] = []

    async def body(send: Send) -> None:
        note_request()
        await send(start("text/event-stream"))
        await send(chunk)
        sent.append(chunk)

    assert call(body)[1] is sent[0]


def test_a_stream_that_asks_the_engine_late_waits_with_its_head() -> None:
    """As the Responses API does: two events, then the engine, then the rest."""

    async def body(send: Send) -> None:
        await send(start("text/event-stream"))
        await send(part(event({"type": "response.created", "response": {"usage": None}})))
        await send(part(event({"type": "response.in_progress"})))
        answer = current_answer.get()
        assert answer is not None
        assert answer.release is not None
        note_request()
        await answer.release()
        await send(part(event({"response": {"usage": {"total_tokens": 15}}}), more=False))

    head, created, in_progress, completed = call(body)
    assert header(head) == "8"
    assert b"response.created" in created["body"]
    assert b"response.in_progress" in in_progress["body"]
    usage = json.loads(completed["body"].removeprefix(b"data: "))["response"]["usage"]
    assert usage == {"total_tokens": 15, "factor_set": FACTOR_SET}


def test_what_is_sent_while_the_head_is_released_comes_after_it() -> None:
    order: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start("text/event-stream"))
        await send(part(b"data: 1\n\n"))
        answer = current_answer.get()
        assert answer is not None
        assert answer.release is not None
        note_request()
        release = asyncio.create_task(answer.release())
        await asyncio.sleep(0)
        await send(part(b": keep-alive\n\n", more=False))
        await release

    async def send(message: Message) -> None:
        await asyncio.sleep(0.01)
        order.append(message.get("body", b"head"))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(FactorSetMiddleware(app)({"type": "http", "method": "POST"}, receive, send))
    assert order == [b"head", b"data: 1\n\n", b": keep-alive\n\n"]


@pytest.mark.parametrize("events", [1, 2, 3, 5])
def test_a_stream_that_never_asks_the_engine_is_let_go(events: int) -> None:
    messages = [start("text/event-stream")]
    messages += [part(b"data: 1\n\n", more=number < events) for number in range(1, events + 1)]

    async def body(send: Send) -> None:
        for message in messages:
            await send(message)

    assert call(body) == messages


def test_several_requests_are_summed_up() -> None:
    async def body(send: Send) -> None:
        note_request(prompt=20, generated=1)
        note_request(prompt=5, generated=10)
        await send(start("application/json"))
        await send(part(b'{"usage":{}}', more=False))

    head, rest = call(body)
    assert header(head) == "32"
    assert json.loads(rest["body"])["usage"]["factor_set"] == {
        "started": 32,
        "finished": 32,
        "promoted": True,
    }
