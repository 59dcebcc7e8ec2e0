"""Figures against what the server knows that it did.

The machine is shared: a single value may be late by its scheduling, so that medians are compared,
and a run in which they are off is repeated. A figure that is defined wrongly is off in every run,
by a whole gap or, where it is a gap itself, by a tenth of one.
"""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import pytest
from longrope_loadtest.results.figures import summary
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record
from longrope_loadtest.run.scrape import Scraper

from tests.loadtest.mock_server import Truth
from tests.loadtest.mocking import MockServer, driven, matched, profile

# What a figure may be off by. Times count the way of a request and its answer through both
# processes, which takes 2 ms and more of a slow core; gaps do not.
TIME, GAP, SHARE = 0.006, 0.001, 0.01
RUNS = 4
MOCK = {"first": 0.1, "gap": 0.02, "tokens": 10}
TAKES = 0.1 + 9 * 0.02
CONSTANT = {"kind": "constant", "rate": 50, "requests": 16}
ARRIVALS = [
    CONSTANT,
    {"kind": "poisson", "rate": 50, "requests": 16},
    {"kind": "gamma", "rate": 50, "burstiness": 0.5, "requests": 16},
    {"kind": "closed", "users": 4, "requests": 20},
]
WAYS: list[dict[str, Any]] = [
    {"api": "chat"},
    {"api": "completions"},
    {"api": "chat", "stream": False},
    {"api": "completions", "stream": False},
]
CASES = [(arrivals, WAYS[0]) for arrivals in ARRIVALS] + [(CONSTANT, way) for way in WAYS[1:]]

Pairs = list[tuple[Record, Truth]]
Errors = dict[str, float]  # what figures are off over what they may be


def error(pairs: Iterable[tuple[float | None, float]], allowed: float = TIME) -> float:
    """The median of what figures are off, over what they may be."""
    return median(abs((seen or 0) - true) / max(allowed, SHARE * true) for seen, true in pairs)


def assert_near(
    server: MockServer,
    arrivals: dict[str, Any],
    errors: Callable[[Run, Pairs], Errors],
    mock: dict[str, Any] = MOCK,
    **fields: Any,
) -> None:
    """Runs a load until all of `errors` are at most 1, a few times.

    A run proves nothing if its event loop was itself as late as figures may be off.
    """
    failed: Errors | None = None
    for _ in range(RUNS):
        run = driven(profile(arrivals, mock, **fields), server.url)
        truths = server.truths()
        assert len(truths) == len(run.records) == len(run.plan)
        found = errors(run, matched(run, truths))
        if max(found.values()) <= 1:
            return
        assert run.load is not None
        if run.load.loop_lag_p99 <= TIME:
            failed = found
    if failed is None:
        pytest.skip("other processes had the machine")
    raise AssertionError(failed)


def whole(run: Run, pairs: Pairs) -> Errors:
    latency = summary(run.records, run.profile)["a"]["latency"]
    # The server's clock and the run's have different zeros; the way takes the same time.
    zero = median(t.arrived - r.intended for r, t in pairs)
    return {
        "arrival": error((t.arrived - zero, r.intended) for r, t in pairs),
        "e2e": error((r.e2e(), t.e2e()) for r, t in pairs),
        "e2e p50": error([(latency["e2e"]["p50"], median(t.e2e() for _, t in pairs))]),
    }


def streamed(run: Run, pairs: Pairs) -> Errors:
    latency = summary(run.records, run.profile)["a"]["latency"]
    gaps = [gap for r, t in pairs for gap in zip(r.token_gaps, t.gaps(), strict=True)]
    tpots = [(r.tpot(), sum(t.gaps()) / len(t.gaps())) for r, t in pairs]
    return {
        **whole(run, pairs),
        "ttft": error((r.ttft(), t.ttft()) for r, t in pairs),
        "tpot": error(tpots, GAP),
        "itl": error(gaps, GAP),
        "ttft p50": error([(latency["ttft"]["p50"], median(t.ttft() for _, t in pairs))]),
        "tpot p50": error([(latency["tpot"]["p50"], median(true for _, true in tpots))], GAP),
        "itl p50": error([(latency["itl"]["p50"], median(true for _, true in gaps))], GAP),
    }


@pytest.mark.parametrize(("arrivals", "way"), CASES)
def test_each_figure_is_the_servers(
    server: MockServer, arrivals: dict[str, Any], way: dict[str, Any]
) -> None:
    assert_near(server, arrivals, streamed if way.get("stream", True) else whole, **way)


def test_without_streaming_there_is_no_first_token(server: MockServer) -> None:
    run = driven(profile({"kind": "closed", "users": 1, "requests": 2}, stream=False), server.url)
    latency = summary(run.records, run.profile)["a"]["latency"]
    assert latency["ttft"] is latency["tpot"] is latency["itl"] is None


def test_a_closed_loop_sends_the_next_request_when_one_is_over(server: MockServer) -> None:
    def errors(run: Run, pairs: Pairs) -> Errors:
        starts = sorted(t.arrived for _, t in pairs)
        rounds = [starts[number] - starts[0] for number in range(0, 12, 3)]
        return {"rounds": error((seen, n * (TAKES + 0.003)) for n, seen in enumerate(rounds))}

    assert_near(server, {"kind": "closed", "users": 3, "requests": 12}, errors)


def test_thinking_is_not_in_the_latency(server: MockServer) -> None:
    def errors(run: Run, pairs: Pairs) -> Errors:
        arrived = sorted(t.arrived for _, t in pairs)
        assert arrived[-1] - arrived[0] >= 2 * (TAKES + 0.2)
        return {"e2e": error((r.e2e("intended"), t.e2e()) for r, t in pairs)}

    think = {"kind": "closed", "users": 3, "requests": 9, "think": 0.2}
    assert_near(server, think, errors)


def test_comments_and_the_role_are_no_first_token(server: MockServer) -> None:
    def errors(run: Run, pairs: Pairs) -> Errors:
        assert median((r.first_byte or 0) - r.dispatched for r, _ in pairs) < 0.05
        return streamed(run, pairs)

    assert_near(server, CONSTANT, errors, {**MOCK, "comments": 20})


@pytest.mark.parametrize("way", WAYS[:2])
def test_an_end_token_without_text_is_in_the_latency(
    server: MockServer, way: dict[str, Any]
) -> None:
    assert_near(server, CONSTANT, streamed, {**MOCK, "eos": True}, **way)


def test_token_counts_are_the_servers(server: MockServer) -> None:
    closed = {"kind": "closed", "users": 4, "requests": 8}
    mock = {"tokens": 10, "cached": 32, "factor_set": 8192, "promoted_to": 16384}
    for way in WAYS:
        run = driven(profile(closed, mock, prompt={"tokens": 50}, **way), server.url)
        for r in run.records:
            assert (r.prompt_tokens, r.output_tokens, r.cached_tokens) == (50, 10, 32)
            assert (r.factor_set, r.promoted_to) == ("8192", "16384")


@pytest.mark.parametrize(("mock", "correct"), [("right", True), ("wrong", False)])
def test_passkeys_are_judged(server: MockServer, mock: str, correct: bool) -> None:
    closed = {"kind": "closed", "users": 4, "requests": 8}
    prompt = {"kind": "passkey", "tokens": 100}
    for way in WAYS:
        run = driven(profile(closed, {"passkey": mock}, prompt=prompt, **way), server.url)
        assert [r.correct for r in run.records] == [correct] * 8


@pytest.mark.long
def test_the_servers_metrics_are_looked_at_once_a_second(server: MockServer) -> None:
    scraper = Scraper(server.url, None)
    with scraper.watching():
        driven(profile({**CONSTANT, "rate": 20, "requests": 60}, MOCK), server.url)
    first, *_, last = scraper.scrapes()
    assert last.values["vllm:num_requests_running"] == 3  # of two engines
    assert first.values["vllm:request_success_total"] < last.values["vllm:request_success_total"]
    assert last.at - first.at == pytest.approx(len(scraper.scrapes()) - 1, abs=0.5)
