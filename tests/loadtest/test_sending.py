"""What a run does besides sending: it leaves, tries again, and does not count its beginning."""

import asyncio
import time
from collections import Counter
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from longrope_loadtest.results.figures import summary
from longrope_loadtest.run.record import Record

from tests.loadtest.mocking import MockServer, driven, matched, profile

SIX = {"kind": "constant", "rate": 60, "requests": 6}
SLOW = {"first": 0.1, "gap": 0.05, "tokens": 20}


def test_requests_are_left_when_the_profile_says_so(server: MockServer) -> None:
    cancel = {"share": 1, "after": 0.3}
    run = driven(profile(SIX, SLOW, cancel=cancel), server.url)
    for record in run.records:
        assert record.outcome == "cancelled"
        assert record.error is None
        assert record.ended - record.dispatched >= 0.29
        assert record.token_gaps
        assert record.last_token is not None
    assert median(record.ended - record.dispatched for record in run.records) < 0.4
    figures = summary(run.records, run.profile)["a"]
    assert figures["requests"]["cancelled"] == 6
    assert figures["requests"]["failed"] == figures["requests"]["complete"] == 0


def test_no_request_has_the_cookie_of_another(server: MockServer) -> None:
    """With it, a balancer would send all of them to one replica."""
    made = profile(SIX, {"cookie": True})
    run = driven(made, server.url.replace("127.0.0.1", "localhost"))
    assert {record.outcome for record in run.records} == {"complete"}
    assert all("cookie" not in truth.headers for truth in server.truths())


def test_a_request_that_is_done_before_is_not_left(server: MockServer) -> None:
    run = driven(profile(SIX, {}, cancel={"share": 1, "after": 5}), server.url)
    assert {record.outcome for record in run.records} == {"complete"}


def test_a_request_may_be_left_before_its_first_token_and_before_an_answer(
    server: MockServer,
) -> None:
    cancel = {"share": 1, "after": 0.1}
    for stream in (True, False):
        made = profile(SIX, {"first": 5}, cancel=cancel, stream=stream)
        run = driven(made, server.url)
        assert {record.outcome for record in run.records} == {"cancelled"}
        assert all(record.first_token is None for record in run.records)


def test_the_warm_up_is_sent_but_not_counted(server: MockServer) -> None:
    made = profile({"kind": "constant", "rate": 20, "requests": 20}, {}, warm_up=0.5)
    run = driven(made, server.url)
    assert len(server.truths()) == 20
    assert [record.warm_up for record in run.records] == [True] * 10 + [False] * 10
    figures = summary(run.records, run.profile)["a"]
    assert figures["requests"]["warm_up"] == 10
    assert figures["requests"]["complete"] == figures["latency"]["e2e"]["count"] == 10
    assert figures["seconds"] == pytest.approx(0.45, abs=0.2)


def test_a_refused_request_is_not_sent_again_by_default(server: MockServer) -> None:
    refuses = {"status": 503, "refusals": 1, "retry_after": "0.1"}
    run = driven(profile(SIX, refuses), server.url)
    assert len(server.truths()) == 6
    for record in run.records:
        assert (record.outcome, record.error) == ("failed", "http 503")
        assert (record.status, record.message) == (503, "mock says 503")
        assert record.retries == 0


@pytest.mark.parametrize("status", [429, 503])
def test_retries_wait_as_the_server_says(server: MockServer, status: int) -> None:
    refuses = {"status": status, "refusals": 2, "retry_after": "0.3"}
    run = driven(profile(SIX, refuses, retries=3), server.url)
    truths = server.truths()
    assert len(truths) == 3 * 6
    for record in run.records:
        assert (record.outcome, record.retries, record.status) == ("complete", 2, 200)
        # The waits are the request's, as they are the user's.
        assert (record.ttft() or 0) >= 0.6
    waits = []
    for body in {truth.body for truth in truths}:
        arrived = [truth.arrived for truth in truths if truth.body == body]
        waits += [after - before for before, after in pairwise(arrived)]
    assert median(waits) == pytest.approx(0.3, abs=0.1)
    assert summary(run.records, run.profile)["a"]["requests"]["retries"] == 12


def test_retries_end(server: MockServer) -> None:
    run = driven(profile(SIX, {"status": 503, "retry_after": "0"}, retries=2), server.url)
    assert len(server.truths()) == 3 * 6
    assert {(r.outcome, r.error, r.retries) for r in run.records} == {("failed", "http 503", 2)}


def test_the_timeout_is_of_the_request_with_its_retries(server: MockServer) -> None:
    run = driven(
        profile(SIX, {"status": 503, "retry_after": "5"}, retries=3, timeout=0.5), server.url
    )
    assert {(r.outcome, r.error, r.status) for r in run.records} == {("failed", "timeout", 503)}
    assert all(0.45 <= record.ended - record.dispatched < 3 for record in run.records)


@pytest.mark.parametrize("header", [None, "Wed, 21 Oct 2026 07:28:00 GMT", "inf"])
def test_without_seconds_to_wait_a_retry_waits_one(server: MockServer, header: str | None) -> None:
    refuses = {"status": 503, "refusals": 1, "retry_after": header}
    run = driven(profile({**SIX, "requests": 2}, refuses, retries=1), server.url)
    assert all(1 <= (record.ttft() or 0) < 2 for record in run.records)


def test_other_refusals_are_not_sent_again(server: MockServer) -> None:
    run = driven(profile(SIX, {"status": 500, "refusals": 1}, retries=3), server.url)
    assert {record.error for record in run.records} == {"http 500"}
    assert len(server.truths()) == 6


def test_a_user_is_due_when_the_thinking_is_over_also_if_the_client_is_late(
    server: MockServer,
) -> None:
    class HoldsUp:
        def dispatched(self, record: Record) -> None: ...

        def ended(self, record: Record) -> None:
            asyncio.get_running_loop().call_later(0.01, time.sleep, 0.3)

    closed = {"kind": "closed", "users": 1, "requests": 3, "think": 0.1}
    run = driven(profile(closed), server.url, watchers=(HoldsUp(),))
    assert run.records[0].intended == 0.1
    for before, after in pairwise(run.records):
        assert after.intended == pytest.approx(before.ended + 0.1, abs=0.01)
        assert after.dispatched - after.intended > 0.15


def test_connections_are_kept(server: MockServer) -> None:
    closed = {"kind": "closed", "users": 1, "requests": 20}
    pairs = matched(driven(profile(closed, {}), server.url), server.truths())
    assert all(truth.headers.get("connection") != "close" for _, truth in pairs)


@pytest.mark.slow
def test_users_who_think_as_long_as_the_server_keeps_connections(server: MockServer) -> None:
    # uvicorn, and so vLLM, closes a connection that has been idle for 5 s.
    think = {"kind": "uniform", "min": 4.98, "max": 5.02}
    closed = {"kind": "closed", "users": 400, "requests": 1200, "think": think}
    run = driven(profile(closed, {"tokens": 1}), server.url)
    assert Counter((r.outcome, r.message) for r in run.records) == {("complete", None): 1200}


def test_bodies_are_sent_with_their_length_not_in_chunks(server: MockServer) -> None:
    closed = {"kind": "closed", "users": 2, "requests": 4}
    big = profile(closed, {}, prompt={"tokens": 100_000})
    for record, truth in matched(driven(big, server.url), server.truths()):
        assert truth.length == record.body_bytes > 500_000
        assert truth.headers["content-length"] == str(truth.length)
        assert "transfer-encoding" not in truth.headers
        assert record.sent is not None
        assert record.prompt_tokens == 100_000


def test_a_server_behind_a_path_is_reached(server: MockServer) -> None:
    run = driven(profile(SIX, {}), f"{server.url}/behind/a/prefix")
    assert {record.outcome for record in run.records} == {"complete"}


def test_a_run_can_be_stopped_from_within(server: MockServer) -> None:
    class AfterThree:
        def __init__(self) -> None:
            self.ends = 0

        def dispatched(self, record: Record) -> None: ...

        def ended(self, record: Record) -> None:
            self.ends += 1
            if self.ends == 3:
                runs[0].stop()

    runs: list[Any] = []
    run = driven(
        profile({**SIX, "requests": 4000}, {"gap": 0.01}),
        server.url,
        watchers=(AfterThree(),),
        started=runs.append,
    )
    assert not run.interrupted
    outcomes = Counter(record.outcome for record in run.records)
    assert outcomes.keys() == {"complete", "interrupted"}
    assert outcomes["complete"] >= 3
    assert outcomes.total() < 4000
