import json
import random
import time
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_loadtest.capacity import capacity, command
from longrope_loadtest.capacity.capacity import PRECISION, Capacity, Repeat, StopWhenLost
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.profiles.rates import at_rate, rate_of
from longrope_loadtest.run import lag
from longrope_loadtest.run.driving import Run

from tests.loadtest.commands import loadtest, requests_in, started, written
from tests.loadtest.mocking import MockServer, profile, serving
from tests.loadtest.records import record


class MadeUpServer:
    """Meets objectives up to a rate; beyond it, in proportion to what it can do."""

    def __init__(self, limit: float, noise: float = 0) -> None:
        self.limit = limit
        self.noise = noise
        self.rng = random.Random(0)

    def __call__(self, rate: float) -> list[Repeat]:
        limits = [self.limit * (1 + self.rng.uniform(-self.noise, self.noise)) for _ in range(5)]
        return [Repeat(100, round(100 * min(1.0, limit / rate))) for limit in limits]


@given(st.floats(0.01, 1000), st.floats(0.1, 100))
def test_the_capacity_is_found_to_the_precision(limit: float, start: float) -> None:
    server = MadeUpServer(limit)
    found = capacity.find(start, 0, 0.99, server)
    if found.rate is None or found.missed_at is None:
        # Twelve doublings or halvings were not enough.
        assert limit > start * 2**11 or limit < start / 2**11
        return
    # 99 % of the requests are good a little above the limit, and half a request is rounded up.
    assert found.rate <= limit * 1.02
    assert found.missed_at >= limit
    assert found.missed_at - found.rate <= PRECISION * found.rate
    assert len(found.probes) <= 13 + 5


def test_the_repeats_of_a_noisy_server_count_together() -> None:
    server = MadeUpServer(40, noise=0.1)
    found = capacity.find(5, 0, 0.9, server)
    assert found.rate is not None
    assert 36 < found.rate < 50
    assert all((probe.requests, probe.runs) == (500, 5) for probe in found.probes)


def test_a_server_that_meets_nothing_and_one_that_meets_all_are_told() -> None:
    nothing = capacity.find(8, 0, 0.99, lambda rate: [Repeat(10, 0)])
    assert nothing == Capacity(None, 8 / 2**12, nothing.probes)
    above_two = capacity.find(8, 2, 0.99, lambda rate: [Repeat(10, 0)])
    assert above_two == Capacity(None, 2, above_two.probes)
    everything = capacity.find(8, 0, 0.99, lambda rate: [Repeat(10, 10)])
    assert everything == Capacity(8 * 2**12, None, everything.probes)


@pytest.mark.parametrize(("good", "of"), [(9, 10), (55, 100), (57, 100), (29, 50), (99, 100)])
def test_a_share_that_is_just_enough_is_enough(good: int, of: int) -> None:
    found = capacity.find(1, 0, float(f"{good / of:.2f}"), lambda rate: [Repeat(of, good)])
    assert found.missed_at is None


CONSTANT = {"kind": "constant", "rate": 10, "requests": 10}


class Stops:
    """A run that notes how often it was stopped."""

    def __init__(self) -> None:
        self.calls = 0

    def stop(self) -> None:
        self.calls += 1


def stopping(attainment: float, repeats: int = 1, warm_up: float = 0) -> tuple[StopWhenLost, Stops]:
    made = profile(CONSTANT, slo={"ttft": 0.2}, attainment=attainment, warm_up=warm_up)
    stops = Stops()
    watcher = StopWhenLost(made, repeats * plan.make(made, 0).counted(warm_up))
    return watcher.of(cast("Run", stops)), stops


@pytest.mark.parametrize(
    ("attainment", "repeats", "allowed"),
    [(1, 1, 0), (0.9, 1, 1), (0.7, 1, 3), (0.85, 1, 1), (0.9, 3, 3), (0.55, 10, 45), (0, 1, 10)],
)
def test_a_run_is_stopped_at_the_first_miss_that_cannot_be_mended(
    attainment: float, repeats: int, allowed: int
) -> None:
    watcher, stops = stopping(attainment, repeats)
    for number in range(allowed):
        watcher.ended(record(number, late=1))
    assert stops.calls == 0
    if attainment:
        watcher.ended(record(allowed, late=1))
        assert stops.calls == 1


def test_only_counted_misses_stop_a_run() -> None:
    watcher, stops = stopping(1)
    watcher.ended(record(0))
    watcher.ended(record(1, late=1, warm_up=True))
    watcher.ended(record(2, outcome="cancelled"))
    watcher.ended(record(3, outcome="interrupted"))
    assert stops.calls == 0
    watcher.ended(record(4, outcome="failed"))
    assert stops.calls == 1


def test_warm_up_requests_are_not_among_those_that_can_mend() -> None:
    watcher, stops = stopping(0.8, warm_up=0.5)  # 5 of 10 are counted, 1 may miss
    watcher.ended(record(6, late=1))
    assert stops.calls == 0
    watcher.ended(record(7, late=1))
    assert stops.calls == 1


def test_the_rate_of_the_shared_arrivals_is_set() -> None:
    assert rate_of(at_rate(profile(CONSTANT), 7)) == 7


def test_profiles_without_a_rate_or_objectives_are_refused() -> None:
    with pytest.raises(UsageError, match="objectives"):
        capacity.check(profile(CONSTANT))
    closed = {"kind": "closed", "users": 1, "requests": 1}
    with pytest.raises(UsageError, match="constant, poisson or gamma"):
        capacity.check(profile(closed, slo={"ttft": 1}))


def test_a_search_that_ends_early_keeps_its_rates(server: MockServer, tmp_path: Path) -> None:
    # At 80 requests/s, all 20 are due within the warm-up.
    arrivals = {"kind": "constant", "rate": 20, "requests": 20}
    path = written(tmp_path, arrivals, slo={"e2e": 60}, profile={"warm_up": 0.3})
    out = tmp_path / "out"
    outcome = loadtest("capacity", path, "--url", server.url, "-o", out, "--repeats", "1")
    assert outcome.status == 2
    assert "with these rates in capacity.json: All 20 requests are due within" in outcome.stderr
    found = json.loads((out / "capacity.json").read_text())
    assert [probe["rate"] for probe in found["probes"]] == [20, 40]
    assert (found["rate"], found["missed_at"]) == (40, None)


def test_a_rate_is_lost_by_the_requests_of_all_its_repeats(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    class Noting(StopWhenLost):
        def __init__(self, profile: Profile, number: int) -> None:
            requests.append(number)
            super().__init__(profile, number)

    monkeypatch.setattr(command, "StopWhenLost", Noting)
    monkeypatch.setattr(capacity, "DOUBLINGS", 0)
    path = written(tmp_path, {"kind": "poisson", "rate": 40, "duration": 0.4}, slo={"e2e": 60})
    out = tmp_path / "out"
    assert loadtest("capacity", path, "--url", server.url, "-o", out).status == 0
    sent = [len(requests_in(folder)) for folder in out.glob("*-rate-*")]
    assert len(set(sent)) > 1  # random arrivals are not equally many
    assert requests == [sum(sent)]


def test_the_repeats_of_a_lost_rate_are_left_out(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "DOUBLINGS", 1)
    arrivals = {"kind": "constant", "rate": 50, "requests": 10}
    # Of 40 requests 16 may miss: the first run does not decide, the second does with its seventh.
    path = written(
        tmp_path, arrivals, {"first": 0.02}, slo={"ttft": 0.01}, profile={"attainment": 0.6}
    )
    out = tmp_path / "out"
    outcome = loadtest("capacity", path, "--url", server.url, "-o", out, "--repeats", "4")
    assert outcome.status == 1
    probes = json.loads((out / "capacity.json").read_text())["probes"]
    assert [(p["rate"], p["met"], p["runs"]) for p in probes] == [(50, False, 2), (25, False, 2)]
    assert [probe["requests"] for probe in probes] == [20, 20]
    folders = sorted(out.glob("*-rate-*"))
    assert [folder.name[:2] for folder in folders] == ["01", "02", "03", "04"]
    runs = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert [about["stopped"] for about in runs] == [False, True, False, True]
    assert outcome.stderr.count("Too many missed their objectives") == 2
    assert loadtest("compare", folders[0], folders[1], "--fail-above", "2").status == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_that_hangs_is_not_waited_for(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(capacity, "DOUBLINGS", 0)
    path = written(
        *(tmp_path, {"kind": "constant", "rate": 100, "requests": 10}, {"first": 60}),
        **{"slo": {"ttft" if stream else "e2e": 0.1}, "stream": stream, "timeout": 5},
        profile={"attainment": 0.9},
    )
    out = tmp_path / "out"
    assert loadtest("capacity", path, "--url", server.url, "-o", out).status == 1
    (folder,) = out.glob("*-rate-*")
    assert {request["outcome"] for request in requests_in(folder)} == {"interrupted"}
    (probe,) = json.loads((out / "capacity.json").read_text())["probes"]
    assert (probe["met"], probe["good_requests"], probe["runs"]) == (False, 0, 1)


def test_a_server_that_ends_ends_the_search(tmp_path: Path) -> None:
    """Else every rate below the one that it died of would be missed."""
    out = tmp_path / "out"
    path = written(tmp_path, {"kind": "constant", "rate": 20, "requests": 20}, slo={"e2e": 60})
    with serving() as short_lived:
        process = started("capacity", path, "--url", short_lived.url, "-o", out, "--repeats", "1")
        while process.poll() is None and not (out / "capacity.json").exists():
            time.sleep(0.05)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert "ended early, with these rates in capacity.json: No request of " in stderr
    probes = json.loads((out / "capacity.json").read_text())["probes"]
    assert sum(not probe["met"] for probe in probes) <= 1  # the one that it died of


def test_a_rate_at_which_nothing_counts_is_none(server: MockServer, tmp_path: Path) -> None:
    cancel = {"share": 1, "after": 0}
    path = written(tmp_path, CONSTANT | {"rate": 100}, {"first": 1}, slo={"e2e": 9}, cancel=cancel)
    outcome = loadtest("capacity", path, "--url", server.url, "-o", tmp_path / "out")
    assert outcome.status == 2
    assert "No request counts at 100 requests/s: all were cancelled" in outcome.stderr


def test_a_client_that_did_not_keep_up_is_told(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "LAG_LIMIT", -1)
    monkeypatch.setattr(lag, "LAG_SHARE", 0)
    monkeypatch.setattr(capacity, "DOUBLINGS", 0)
    path = written(tmp_path, CONSTANT, slo={"e2e": 60})
    arguments = ("--url", server.url, "-o", tmp_path / "out", "--repeats", "1")
    assert "The client was saturated" in loadtest("capacity", path, *arguments).stderr


def test_what_a_closed_loop_sends_in_the_warm_up_is_not_due() -> None:
    closed = {"kind": "closed", "users": 1, "requests": 4}
    made = profile(CONSTANT, slo={"ttft": 0.2}, warm_up=0.5)
    each = made.classes["a"].model_dump(exclude_unset=True) | {"arrivals": closed}
    made = Profile.model_validate(
        made.model_dump(exclude_none=True) | {"classes": {"a": made.classes["a"], "b": each}}
    )
    planned = plan.make(made, 0)
    records = [record(n, at=n / 10, warm_up=n < 5) for n in range(10)]
    records += [record(n, class_name="b", warm_up=n == 10, late=1) for n in range(10, 14)]
    seen = command._repeat(made, planned, records)
    assert (seen.requests, seen.good_requests) == (8, 5)


def test_turns_after_one_that_was_left_are_not_missed() -> None:
    made = profile(CONSTANT, slo={"ttft": 0.2})
    planned = plan.make(made, 0)  # of 10 requests, as if they were two conversations
    records = [record(number) for number in range(7)]
    records.append(record(7, outcome="cancelled", turn=3, turns=5))
    seen = command._repeat(made, planned, records)
    assert (seen.requests, seen.good_requests) == (7, 7)
