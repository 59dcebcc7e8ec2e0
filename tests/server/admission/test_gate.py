import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from longrope_server.front_end.admission.gate import Gate, Ticket
from longrope_server.front_end.admission.ledger import Ledger, Sum
from longrope_server.front_end.admission.limits import Limits
from longrope_server.front_end.openai_error import Refusal, RefusedError
from longrope_server.keys.key_file import Key, Quota

SHORT, LONG = 100, 1000


async def stays() -> None:
    await asyncio.Event().wait()


def gate(ledger: Ledger | None = None, **limits: Any) -> Gate:
    completed = Limits.model_validate(limits).completed([SHORT, LONG], 100, None)
    return Gate(completed, ledger or Ledger())


@asynccontextmanager
async def inside(gate: Gate, tokens: int, key: Key | None = None) -> AsyncIterator[Ticket]:
    ticket = await gate.enter(tokens, key, stays)
    assert ticket is not None
    try:
        yield ticket
    finally:
        gate.leave(ticket)


def in_flight(gate: Gate) -> dict[int, Sum]:
    return gate.ledger.usage()["in_flight"]


def is_empty(gate: Gate) -> bool:
    usage = gate.ledger.usage()
    counts = [count for state in usage.values() for count in state.values()]
    return not any(count.requests or count.tokens for count in counts) and not any(
        gate.waiting.values()
    )


async def refusal_of(entering: Any) -> Refusal:
    with pytest.raises(RefusedError) as refused:
        await entering
    return refused.value.refusal


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_200_at_once_never_are_more_than_the_limits_allow() -> None:
    doors, served = gate(in_flight=8, queued=20), []

    async def visit(number: int) -> str:
        async with inside(doors, 10):
            assert in_flight(doors)[SHORT].requests <= 8
            served.append(number)
            await asyncio.sleep(0.01)
            return "served"

    outcomes = await asyncio.gather(*map(visit, range(200)), return_exceptions=True)
    assert outcomes.count("served") == len(served) == 28
    assert served == sorted(served)
    for refused in (outcome for outcome in outcomes if outcome != "served"):
        assert isinstance(refused, RefusedError)
        assert refused.refusal.status == 503
        assert 1 <= int(refused.refusal.headers["Retry-After"]) <= 60
    assert is_empty(doors)


async def test_a_full_long_class_holds_up_no_short_request() -> None:
    doors = gate(classes={LONG: {"in_flight": 1, "queued": 1}, SHORT: {}})
    async with inside(doors, 500) as first:
        waiting = asyncio.create_task(doors.enter(600, None, stays))
        await settle()
        assert (await refusal_of(doors.enter(700, None, stays))).code == "server_full"
        async with inside(doors, 50), inside(doors, 60):
            assert in_flight(doors)[SHORT].requests == 2
        assert not waiting.done()
        assert first.bound == LONG
    second = await waiting
    assert second is not None
    doors.leave(second)
    assert is_empty(doors)


async def test_tokens_are_limited_but_one_alone_may_be_of_any_length() -> None:
    doors = gate(queued=0, classes={LONG: {"tokens": 800}, SHORT: {}})
    async with inside(doors, 900):
        await refusal_of(doors.enter(200, None, stays))
    async with inside(doors, 500), inside(doors, 300):
        await refusal_of(doors.enter(101, None, stays))
    assert is_empty(doors)


async def test_who_waits_too_long_or_leaves_or_is_cancelled_leaves_nothing_behind() -> None:
    doors = gate(in_flight=1, queue_seconds=0.05)
    async with inside(doors, 10):
        assert (await refusal_of(doors.enter(10, None, stays))).status == 503

        async def leaves() -> None:
            await asyncio.sleep(0.01)

        assert await doors.enter(10, None, leaves) is None
        cancelled = asyncio.create_task(doors.enter(10, None, stays))
        await settle()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert doors.ledger.usage()["queued"][SHORT] == Sum()
    assert is_empty(doors)


async def test_a_longer_prompt_than_estimated_waits_for_its_class_and_keeps_its_place() -> None:
    doors = gate(classes={LONG: {"in_flight": 1}, SHORT: {"in_flight": 2}})
    async with inside(doors, 500) as other, inside(doors, 50) as ticket:
        correcting = asyncio.create_task(doors.correct(ticket, 300, 300))
        await settle()
        assert not correcting.done()
        assert in_flight(doors) == {LONG: Sum(1, 500), SHORT: Sum(1, 0)}
        await doors.correct(other, 40, 40)  # it was shorter than it looked
        await correcting
        assert in_flight(doors) == {LONG: Sum(1, 300), SHORT: Sum(1, 40)}
    assert is_empty(doors)


async def test_two_wrong_estimates_do_not_wait_for_each_other() -> None:
    doors = gate(classes={LONG: {"in_flight": 1}, SHORT: {"in_flight": 1}})
    async with inside(doors, 500) as long, inside(doors, 50) as short, asyncio.timeout(1):
        await asyncio.gather(doors.correct(short, 300, 300), doors.correct(long, 40, 40))
    assert is_empty(doors)


async def test_a_move_needs_no_second_place_among_all() -> None:
    doors = gate(in_flight=1)
    async with inside(doors, 50) as ticket, asyncio.timeout(1):
        await doors.correct(ticket, 500, 500)
        assert in_flight(doors)[LONG] == Sum(1, 500)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_limits_hold_and_everybody_gets_out(seed: int) -> None:
    chance = random.Random(seed)
    doors = gate(in_flight=5, queued=100, classes={LONG: {"in_flight": 2}, SHORT: {"in_flight": 4}})

    async def visit() -> None:
        await asyncio.sleep(chance.random() / 50)
        async with inside(doors, chance.choice([10, 500])) as ticket:
            await asyncio.sleep(chance.random() / 100)
            tokens = chance.choice([20, 600])
            await doors.correct(ticket, tokens, tokens)
            counts = in_flight(doors)
            assert counts[LONG].requests <= 2
            assert sum(count.requests for count in counts.values()) <= 5
            await asyncio.sleep(chance.random() / 100)

    visits = [asyncio.create_task(visit()) for _ in range(60)]
    await asyncio.sleep(0.02)
    for task in chance.sample(visits, 20):
        task.cancel()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*visits, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes if outcome} <= {asyncio.CancelledError}
    assert is_empty(doors)


@pytest.mark.parametrize(
    ("quota", "tokens", "passes", "part"),
    [
        (Quota(in_flight=2), 10, 2, "2 requests at once"),
        (Quota(requests_per_minute=3), 10, 3, "3 requests a minute"),
        (Quota(tokens_per_minute=100), 60, 2, "100 tokens a minute"),
        (Quota(tokens_per_minute=100), 900, 1, "100 tokens a minute"),
    ],
)
async def test_a_key_over_its_quota_gets_429(
    quota: Quota, tokens: int, passes: int, part: str
) -> None:
    doors, key = gate(), Key("alice", b"", quota)
    for _ in range(passes):
        await doors.enter(tokens, key, stays)
    refusal = await refusal_of(doors.enter(tokens, key, stays))
    assert refusal.status == 429
    assert part in refusal.message
    assert 1 <= int(refusal.headers["Retry-After"]) <= 60
    async with inside(doors, tokens, Key("bob", b"", quota)), inside(doors, tokens):
        pass


async def test_an_estimate_that_was_too_high_is_given_back_to_the_quota() -> None:
    doors, key = gate(), Key("alice", b"", Quota(tokens_per_minute=100))
    async with inside(doors, 900, key) as ticket:
        await doors.correct(ticket, 10, 10)
        ticket.has_asked = True
    async with inside(doors, 10, key):
        pass


@pytest.mark.parametrize("leaves", ["in line for a first place", "in line for a longer class"])
async def test_a_request_that_leaves_a_line_gets_its_tokens_back(leaves: str) -> None:
    key = Key("alice", b"", Quota(tokens_per_minute=100))
    doors = gate(classes={SHORT: {}, LONG: {"in_flight": 1}})

    async def waits() -> None:
        if leaves == "in line for a first place":
            await doors.enter(900, key, stays)
        else:
            async with inside(doors, 10, key) as ticket:
                await doors.correct(ticket, 900, 900)

    async with inside(doors, 900):
        waiting = asyncio.create_task(waits())
        await settle()
        assert doors.ledger.wait_for("alice", key.quota) > 60
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert doors.ledger.wait_for("alice", key.quota) == 0
    assert is_empty(doors)


async def test_places_that_another_process_frees_are_seen(tmp_path: Any) -> None:
    path = str(tmp_path / "ledger")
    ours, theirs = (gate(Ledger(path), in_flight=1) for _ in range(2))
    theirs.ledger.process = -1
    ticket = await theirs.enter(10, None, stays)
    assert ticket is not None
    entering = asyncio.create_task(ours.enter(10, None, stays))
    await asyncio.sleep(0.1)
    assert not entering.done()
    theirs.leave(ticket)
    async with asyncio.timeout(5):
        mine = await entering
    assert mine is not None
    ours.leave(mine)
    assert is_empty(ours)
