import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from longrope_server.front_end.admission.admission import Admission, current_place
from longrope_server.front_end.admission.gate import Gate
from longrope_server.front_end.admission.ledger import Ledger, Sum
from longrope_server.front_end.admission.limits import Limits
from longrope_server.front_end.authentication import KEY
from longrope_server.front_end.bodies.body_limit import BodyLimit, Memory
from longrope_server.keys.key_file import Key, Quota
from starlette.types import Receive, Scope, Send

from tests.server.asgi import Connection, body_in, http_scope, read_body, say

SHORT, LONG = 100, 1000
LOOKS_SHORT, LOOKS_LONG = b"x" * 40, b"x" * 2000


class House:
    """The piece around `app`, and what it counts."""

    def __init__(self, app: Callable[..., Any], **limits: Any) -> None:
        completed = Limits.model_validate(limits).completed([SHORT, LONG], 100, None)
        self.gate = Gate(completed, Ledger())
        self.memory = Memory(1 << 20)
        self.reasons: list[str] = []
        piece = Admission(app, self.gate, self.reasons.append)
        self.app = BodyLimit(piece, 1 << 16, 5.0, self.memory)

    async def visit(
        self,
        body: bytes = LOOKS_SHORT,
        key: Key | None = None,
        connection: Connection | None = None,
    ) -> Connection:
        connection = connection or Connection(*body_in([body]))
        scope = {**http_scope(), **({KEY: key} if key else {})}
        await self.app(scope, connection.receive, connection.send)
        return connection

    def in_flight(self) -> dict[int, Sum]:
        return self.gate.ledger.usage()["in_flight"]

    def balances(self) -> dict[str, float]:
        database = self.gate.ledger.database
        return dict(database.execute("SELECT unit, balance FROM balances").fetchall())

    def is_empty(self) -> bool:
        counts = [count for state in self.gate.ledger.usage().values() for count in state.values()]
        waits = any(self.gate.waiting.values())
        return not waits and self.memory.held == 0 and all(count == Sum() for count in counts)


async def tokenises(*prompts: int) -> None:
    """What the observer does for each prompt of one request, all at once."""
    place = current_place.get()
    assert place is not None
    await asyncio.gather(*map(place.tokenised, prompts))
    place.asks()


def prompts_of(*prompts: int, seconds: float = 0.0) -> Callable[..., Any]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await tokenises(*prompts)
        await asyncio.sleep(seconds)
        await say(send)

    return app


async def test_a_request_has_a_place_of_its_class_while_it_is_answered() -> None:
    seen: list[dict[int, Sum]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(house.in_flight())
        await tokenises(70)
        seen.append(house.in_flight())
        await say(send)

    house = House(app)
    assert (await house.visit(LOOKS_LONG)).status == 200
    assert seen == [{LONG: Sum(1, 501)}, {LONG: Sum(0, 0), SHORT: Sum(1, 70)}]
    assert house.is_empty()
    assert current_place.get() is None


@pytest.mark.parametrize(
    ("steps", "tokens"),
    [
        ([[70], [71], [72]], 72),  # a tool loop, or a beam search of one
        ([[10, 10], [11, 11], [12, 12]], 24),  # beams
        ([[40, 30], [20]], 70),  # queries, then documents
        ([[90]], 90),
    ],
)
async def test_prompts_that_come_after_one_another_do_not_add_up(
    steps: list[list[int]], tokens: int
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        place = current_place.get()
        assert place is not None
        for prompts in steps:
            await tokenises(*prompts)
            for prompt in prompts:
                place.computed(prompt)
        assert house.in_flight()[SHORT] == Sum(1, tokens)
        await say(send)

    house = House(app)
    assert (await house.visit()).status == 200
    assert house.is_empty()


async def test_a_request_without_a_body_takes_no_place() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert current_place.get() is None
        await say(send)

    house = House(app)
    connection = Connection()
    await house.app(http_scope("GET"), connection.receive, connection.send)
    assert connection.status == 200
    assert house.is_empty()


async def test_an_application_that_fails_or_is_cancelled_leaves_its_place() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError

    house = House(fails)
    with pytest.raises(KeyError):
        await house.visit()
    assert house.is_empty()

    house = House(prompts_of(10, seconds=60))
    visit = asyncio.create_task(house.visit())
    await asyncio.sleep(0.01)
    assert house.in_flight() == {SHORT: Sum(1, 10)}
    visit.cancel()
    await asyncio.gather(visit, return_exceptions=True)
    assert house.is_empty()


async def test_the_refused_are_answered_in_openais_words_and_counted() -> None:
    house = House(prompts_of(10, seconds=0.05), in_flight=1, queued=0)
    inside = asyncio.create_task(house.visit())
    await asyncio.sleep(0.01)
    full = await house.visit()
    assert full.status == 503
    assert int(full.headers["retry-after"]) >= 1
    assert json.loads(full.body)["error"]["type"] == "server_error"
    await inside
    key = Key("alice", b"", Quota(requests_per_minute=1))
    assert (await house.visit(key=key)).status == 200
    over = await house.visit(key=key)
    assert over.status == 429
    assert json.loads(over.body)["error"] == {
        "message": "This API key's quota is 1 requests a minute.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert house.reasons == ["server_full", "key_quota"]
    assert house.is_empty()


async def test_who_leaves_the_queue_never_reaches_the_application() -> None:
    reached = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)
        await asyncio.sleep(0.05)
        await say(send)

    house = House(app, in_flight=1)
    inside = asyncio.create_task(house.visit())
    await asyncio.sleep(0.01)
    connection = Connection(*body_in([LOOKS_SHORT]))
    queued = asyncio.create_task(house.visit(connection=connection))
    await asyncio.sleep(0.01)
    assert house.gate.ledger.usage()["queued"] == {SHORT: Sum(1, 11)}
    assert house.memory.held == 2 * len(LOOKS_SHORT)
    connection.gone.set()
    await queued
    assert connection.sent == []
    await inside
    assert len(reached) == 1
    assert house.reasons == ["client_left_queue"]
    assert house.is_empty()


@pytest.mark.parametrize("prompts", [(500, 600), (10, 500, 20, 600), (500, 10, 600, 700)])
async def test_a_request_of_several_long_prompts_does_not_wait_for_itself(
    prompts: tuple[int, ...],
) -> None:
    house = House(prompts_of(*prompts), classes={LONG: {"in_flight": 1}, SHORT: {}})
    other = asyncio.create_task(House.visit(house, LOOKS_LONG))
    async with asyncio.timeout(2):
        answers = await asyncio.gather(other, *(house.visit() for _ in range(5)))
    assert {answer.status for answer in answers} == {200}
    assert house.is_empty()


async def test_tokens_of_several_prompts_are_charged_once() -> None:
    key = Key("alice", b"", Quota(tokens_per_minute=10_000))
    house = House(prompts_of(500, 600), classes={LONG: {"in_flight": 1}, SHORT: {}})
    await asyncio.gather(house.visit(key=key), house.visit(key=key))
    assert house.balances() == {"tokens": pytest.approx(10_000 - 2 * 1100, abs=50)}


async def test_a_request_that_asks_no_engine_gets_its_tokens_back() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert house.balances()["tokens"] < 0
        await say(send)

    house = House(app)
    key = Key("alice", b"", Quota(requests_per_minute=5, tokens_per_minute=100))
    for _ in range(2):
        assert (await house.visit(LOOKS_LONG, key)).status == 200
    assert house.balances() == {"requests": pytest.approx(3, abs=0.1), "tokens": 100}


@pytest.mark.parametrize(
    "path",
    [
        *("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/v1/completions/derender"),
        *("/v1/chat/completions/render", "/v1/responses/render", "/cohere/v2/chat/render"),
    ],
)
async def test_what_asks_no_engine_is_a_request_without_tokens(path: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert house.in_flight() == {SHORT: Sum(1, 0)}
        await say(send)

    house = House(app)
    key = Key("alice", b"", Quota(requests_per_minute=5, tokens_per_minute=1000))
    connection = Connection(*body_in([LOOKS_LONG]))
    scope = {**http_scope(path=path), KEY: key}
    await house.app(scope, connection.receive, connection.send)
    assert connection.status == 200
    assert house.balances() == {"requests": pytest.approx(4, abs=0.1), "tokens": 1000}
    assert house.is_empty()


async def test_a_websocket_counts_as_a_request_of_its_key_without_a_place() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert house.in_flight() == {}
        await send({"type": "websocket.accept"})
        await receive()

    house = House(app)
    key = Key("alice", b"", Quota(in_flight=2, requests_per_minute=3))
    scope = {**http_scope("GET", "/v1/realtime"), "type": "websocket", KEY: key}
    clients = [Connection() for _ in range(3)]
    sessions = [
        asyncio.create_task(house.app(scope, client.receive, client.send)) for client in clients
    ]
    await sessions[2]
    kinds = [client.sent[0]["type"] for client in clients]
    assert kinds == ["websocket.accept", "websocket.accept", "websocket.close"]
    assert house.reasons == ["key_quota"]
    for client in clients:
        client.gone.set()
    await asyncio.gather(*sessions)
    assert house.is_empty()


async def test_a_task_that_outlives_its_request_moves_no_place() -> None:
    """vLLM answers in a task of its own, whose cancellation arrives after the request has ended."""
    left: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left.append(asyncio.create_task(tokenises(500)))
        await asyncio.sleep(0.01)
        left.append(asyncio.create_task(tokenises(500)))  # has not even begun to wait
        await say(send)

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.03)
        await say(send)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        await (long if len(await read_body(receive)) > 1000 else app)(scope, receive, send)

    house = House(either, classes={LONG: {"in_flight": 1}, SHORT: {}})
    await asyncio.gather(house.visit(LOOKS_LONG), house.visit())
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*left, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert house.is_empty()
    assert (await house.visit(LOOKS_LONG)).status == 200


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_visitors_do_the_house_is_empty_in_the_end(seed: int) -> None:
    chance = random.Random(seed)
    limits = {
        "in_flight": 4,
        "queued": 30,
        "tokens": chance.choice([None, 800]),
        "queue_seconds": 1,
        "classes": {LONG: {"in_flight": chance.choice([1, 2]), "tokens": 900}, SHORT: {}},
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        counts = house.in_flight()
        assert counts[LONG].requests <= house.gate.limits.classes[LONG].in_flight
        assert sum(count.requests for count in counts.values()) <= 4
        prompts = chance.choices([0, 20, 90, 400, 950], k=chance.choice([1, 1, 2, 3]))
        handler = asyncio.create_task(tokenises(*prompts))
        leaves = asyncio.create_task(receive())
        await asyncio.wait([handler, leaves], return_when=asyncio.FIRST_COMPLETED)
        if chance.random() < 0.8:  # else the task goes on by itself
            handler.cancel()
        leaves.cancel()
        await asyncio.sleep(chance.random() / 100)
        await say(send)

    async def visit() -> None:
        connection = Connection(*body_in([chance.choice([LOOKS_SHORT, LOOKS_LONG])]))
        await asyncio.sleep(chance.random() / 20)
        visiting = asyncio.create_task(house.visit(connection=connection))
        fate = chance.random()
        if fate < 0.4:
            await asyncio.sleep(chance.random() / 20)
            (connection.gone.set if fate < 0.2 else visiting.cancel)()
        await asyncio.wait([visiting])
        if not visiting.cancelled():
            visiting.result()

    house = House(app, **{name: value for name, value in limits.items() if value is not None})
    async with asyncio.timeout(10):
        await asyncio.gather(*(visit() for _ in range(60)))
    await asyncio.sleep(0)
    assert house.is_empty()
