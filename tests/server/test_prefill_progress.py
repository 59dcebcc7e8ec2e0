import asyncio
from collections.abc import Sequence

from longrope_server.front_end.factor_set.answer import Answer, EngineRequest, current_answer
from longrope_server.front_end.prefill_progress import PrefillProgress
from longrope_server.front_end.prefills import Prefills
from openai._streaming import SSEDecoder
from starlette.types import Receive, Scope, Send

from tests.server.asgi import Connection, http_scope
from tests.server.models import Selection

SECONDS = 0.02


class Engine:
    """Computes 4,096 tokens between two questions."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, request_ids: Sequence[str]) -> dict[str, int]:
        self.asked += 1
        return dict.fromkeys(request_ids, 4096 * self.asked)


def waiting(number: int = 0) -> EngineRequest:
    return EngineRequest(Selection(8192, 16384), 12000, 1, f"request-{number}")


class Streams:
    """An application that waits for a while, then has its first token, then another."""

    def __init__(self, first_part: bytes = b"", after: float = 5 * SECONDS) -> None:
        self.first_part = first_part
        self.after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = current_answer.get()
        assert answer is not None
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.first_part:
            await send({"type": "http.response.body", "body": self.first_part, "more_body": True})
        await asyncio.sleep(self.after)
        for request in answer.requests:
            request.add(0, 1, cumulative=False)
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.sleep(3 * SECONDS)
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": False})


async def streamed(app: Streams, prefills: Prefills, number: int = 0, **headers: str) -> Connection:
    answer, connection = Answer(), Connection()
    answer.requests.append(waiting(number))
    current_answer.set(answer)
    scope = http_scope(**headers)
    await PrefillProgress(app, prefills)(scope, connection.receive, connection.send)
    return connection


def comments(connection: Connection) -> list[str]:
    lines = connection.body.decode().splitlines()
    return [line for line in lines if line.startswith(":")]


async def test_a_client_is_told_how_far_its_prompt_is_until_the_first_token() -> None:
    connection = await streamed(Streams(), Prefills(Engine(), SECONDS))
    told = comments(connection)
    assert {": prefill 4096/12000", ": prefill 8192/12000"} <= set(told)
    assert told[-1] != ": prefill 12000/12000" or len(told) < 6
    before, _, after = connection.body.partition(b"data: 1\n\n")
    assert before.count(b"\n\n") == len(told)
    assert after == b"data: 2\n\n"
    events = list(SSEDecoder().iter_bytes(iter([connection.body])))
    assert [event.data for event in events if event.data] == ["1", "2"]


async def test_no_comment_splits_an_event() -> None:
    connection = await streamed(Streams(b"data: half"), Prefills(Engine(), SECONDS))
    assert comments(connection) == []


async def test_a_quick_answer_costs_the_engine_no_question() -> None:
    engine = Engine()
    connection = await streamed(Streams(after=0.0), Prefills(engine, 10.0))
    assert engine.asked == 0
    assert comments(connection) == []


async def test_the_engine_is_asked_once_for_all_streams() -> None:
    engine = Engine()
    prefills = Prefills(engine, SECONDS)
    await asyncio.gather(
        *(asyncio.create_task(streamed(Streams(), prefills, n)) for n in range(50))
    )
    assert engine.asked <= 8
    assert prefills.watched == {}


async def test_an_engine_that_does_not_answer_hurts_no_stream() -> None:
    async def fails(request_ids: Sequence[str]) -> dict[str, int]:
        raise RuntimeError

    connection = await streamed(Streams(), Prefills(fails, SECONDS))
    assert set(comments(connection)) == {": prefill 0/12000"}
    assert connection.is_complete


async def test_aiohttp_gets_no_comments() -> None:
    agent = "Python/3.11 aiohttp/3.13.2"
    connection = await streamed(Streams(), Prefills(Engine(), SECONDS), user_agent=agent)
    assert comments(connection) == []
    assert connection.is_complete


def test_vllms_benchmark_still_stumbles_over_comments() -> None:
    """Once it does not, aiohttp may have comments too."""
    from vllm.benchmarks.lib.endpoint_request_func import StreamedResponseHandler

    handler = StreamedResponseHandler()
    chunks = (b": prefill 1/2\n\n", b'data: {"choices": []}\n\n')
    messages = [message for chunk in chunks for message in handler.add_chunk(chunk.strip())]
    assert 'data: {"choices": []}' not in messages
