import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import drawer, plan, shipped
from longrope_loadtest.profiles import profile as profiles
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.run import bodies

from tests.loadtest.mocking import ROOT, profile
from tests.loadtest.requests_made import sha256

EVERYTHING = """
arrivals: {kind: gamma, rate: 20, burstiness: 0.5, duration: 3}
warm_up: 1
classes:
  chat:
    weight: 3
    prompt:
      kind: words
      tokens: {kind: lognormal, median: 60, sigma: 0.8, max: 500}
      shared_prefix: {tokens: 30, hit_rate: 0.5}
    output_tokens: {kind: choice, values: [5, 50], weights: [1, 2]}
    cancel: {share: 0.1, after: {kind: exponential, mean: 1}}
  needle:
    prompt: {kind: passkey, tokens: {kind: uniform, min: 100, max: 300}}
    output_tokens: 12
  ids:
    api: completions
    prompt:
      kind: token_ids
      tokens: {kind: normal, mean: 40, deviation: 10}
      shared_prefix: {tokens: 10, hit_rate: 0.9}
    output_tokens: 4
    extra: {temperature: 0}
  talk:
    prompt:
      kind: conversation
      tokens: 20
      growth: {kind: uniform, min: 10, max: 40}
      turns: {kind: choice, values: [1, 2, 5]}
      think: {kind: exponential, mean: 1}
      system: {tokens: 12, hit_rate: 0.5}
    output_tokens: 4
    cancel: {share: 0.1, after: 1}
  loop:
    arrivals: {kind: closed, users: 2, requests: 9, think: {kind: exponential, mean: 1}}
    prompt: {kind: words, tokens: 20}
    output_tokens: 4
"""


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    path = tmp_path / "everything.yaml"
    path.write_text(EVERYTHING)
    return path


def contents(path: Path, seed: int) -> list[bytes]:
    loaded = profiles.load(path)
    planned = plan.make(loaded, seed, path.parent)
    with bodies.made(planned, loaded, "model", seed, lambda done: None) as made:
        return [bytes(made.of(request.number)) for request in planned]


def test_the_same_seed_makes_byte_identical_requests_at_the_same_times(everything: Path) -> None:
    loaded = profiles.load(everything)
    assert plan.make(loaded, 3) == plan.make(loaded, 3)
    assert contents(everything, 3) == contents(everything, 3)


def test_the_hash_is_the_same_in_another_process(everything: Path) -> None:
    command = [sys.executable, "-m", "tests.loadtest.requests_made", str(everything), "5"]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == sha256(everything, 5)


def test_different_seeds_have_no_body_in_common(everything: Path) -> None:
    assert not set(contents(everything, 1)) & set(contents(everything, 2))
    assert sha256(everything, 1) != sha256(everything, 2)


def test_the_hash_covers_path_and_body(everything: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(EVERYTHING.replace("temperature: 0", "temperature: 1"))
    assert sha256(other, 1) != sha256(everything, 1)


def test_requests_are_numbered_by_time_and_closed_loops_come_last(everything: Path) -> None:
    planned = plan.make(profiles.load(everything), 0)
    assert [request.number for request in planned] == list(range(len(planned)))
    times = [request.intended for request in planned.open]
    assert times == sorted(times)  # type: ignore[type-var]
    (users,) = planned.closed
    assert users.number == 2
    assert len(users.requests) == len(users.think) == 9
    assert {request.class_name for request in users.requests} == {"loop"}
    assert all(request.intended is None for request in users.requests)
    assert all(think >= 0 for think in users.think)


def test_classes_that_share_arrivals_have_their_weights() -> None:
    classes = {
        name: {"weight": weight, "prompt": {"kind": "words", "tokens": 1}, "output_tokens": 1}
        for name, weight in (("often", 3), ("seldom", 1))
    }
    arrivals = {"kind": "constant", "rate": 1, "requests": 4000}
    planned = plan.make(Profile.model_validate({"arrivals": arrivals, "classes": classes}), 0)
    counts = Counter(request.class_name for request in planned)
    assert counts["often"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_another_class_does_not_move_the_arrivals_of_one_with_its_own() -> None:
    def with_rate(rate: float) -> list[float | None]:
        arrivals = {"kind": "poisson", "rate": rate, "requests": 20}
        own = {"kind": "poisson", "rate": 5, "requests": 20}
        each: dict[str, Any] = {"prompt": {"kind": "words", "tokens": 1}, "output_tokens": 1}
        made = Profile.model_validate(
            {"arrivals": arrivals, "classes": {"a": each, "b": {**each, "arrivals": own}}}
        )
        return [r.intended for r in plan.make(made, 0) if r.class_name == "b"]

    assert with_rate(1) == with_rate(100)


TALK = {
    "kind": "conversation",
    "tokens": 100,
    "growth": {"kind": "uniform", "min": 50, "max": 150},
    "turns": 6,
    "think": {"kind": "uniform", "min": 1, "max": 2},
    "system": {"tokens": 40, "hit_rate": 0.5},
}


@given(st.integers(0, 2**32))
def test_a_conversation_grows_by_its_messages_and_answers(seed: int) -> None:
    arrivals = {"kind": "constant", "rate": 1, "requests": 20}
    planned = plan.make(profile(arrivals, prompt=TALK), seed)
    assert len(planned) == len(list(planned)) == 20 * 6
    assert [request.number for request in planned] == list(range(120))
    systems = [first.prefix for first in planned.open]
    assert 1 < len(set(systems)) < 20
    for at, first in enumerate(planned.open):
        assert (first.intended, first.think, first.prefix_tokens) == (at, 0, 40)
        history = 40
        for number, turn in enumerate(first.turns(), 1):
            assert turn.turn == number
            assert turn.prompt_tokens == history + turn.message_tokens
            history = turn.prompt_tokens + turn.output_tokens
        assert all(turn.intended is None and 1 <= turn.think <= 2 for turn in first.later)
        assert all(50 <= turn.message_tokens <= 150 for turn in first.later)


@pytest.mark.parametrize(("context", "turns"), [(1, 1), (147, 1), (148, 1), (256, 2), (10**6, 6)])
def test_a_conversation_ends_before_its_context_is_full(context: int, turns: int) -> None:
    prompt = TALK | {"growth": 100, "context": context}
    arrivals = {"kind": "closed", "users": 1, "requests": 1}
    (first,) = plan.make(profile(arrivals, prompt=prompt), 0).closed[0].requests
    assert len(first.turns()) == turns
    assert context < 148 or first.turns()[-1].prompt_tokens + 8 <= context


def test_all_turns_of_a_conversation_that_begins_after_the_warm_up_count() -> None:
    arrivals = {"kind": "constant", "rate": 1, "requests": 4}
    assert plan.make(profile(arrivals, prompt=TALK), 0).counted(warm_up=3) == 6


def test_the_agent_grows_from_2000_to_128000_tokens() -> None:
    (users,) = plan.make(profiles.load(shipped.find("agent")), 0).closed
    for first in users.requests:
        assert first.prompt_tokens == 2000
        last = first.turns()[-1]
        assert 112_000 < last.prompt_tokens + last.output_tokens <= 128_000


@pytest.mark.long
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_the_hit_rate_is_what_was_asked(seed: int, hit_rate: float) -> None:
    many = 800
    shared = {"tokens": 10, "hit_rate": hit_rate}
    arrivals = {"kind": "constant", "rate": 1, "requests": many}
    made = profile(arrivals, prompt={"tokens": 40, "shared_prefix": shared})
    seen: set[str | None] = set()
    hits = 0
    for planned in plan.make(made, seed):
        hits += planned.prefix in seen
        seen.add(planned.prefix)
        assert planned.prefix_tokens == 10
    # Six deviations, and the first request, which cannot hit.
    assert hits / many == pytest.approx(hit_rate, abs=6 * 0.5 / many**0.5 + 1 / many)


def test_a_prefix_is_never_longer_than_its_prompt() -> None:
    shared = {"tokens": 100, "hit_rate": 1}
    arrivals = {"kind": "constant", "rate": 1, "requests": 3}
    made = profile(arrivals, prompt={"tokens": 40, "shared_prefix": shared})
    assert [request.prefix_tokens for request in plan.make(made, 0)] == [40, 40, 40]


@pytest.mark.long
@given(st.integers(0, 2**32))
def test_cancellations_have_their_share_and_depths_are_in_the_prompt(seed: int) -> None:
    cancel = {"share": 0.25, "after": {"kind": "uniform", "min": 1, "max": 2}}
    prompt = {"kind": "passkey", "tokens": 100, "depth": {"kind": "uniform", "min": 0, "max": 3}}
    arrivals = {"kind": "constant", "rate": 1, "requests": 800}
    requests = list(plan.make(profile(arrivals, prompt=prompt, cancel=cancel), seed))
    left = [request.cancel_after for request in requests if request.cancel_after is not None]
    assert len(left) / 800 == pytest.approx(0.25, abs=6 * 0.44 / 800**0.5)
    assert all(1 <= after <= 2 for after in left)
    assert all(0 <= request.depth <= 1 for request in requests)
    assert all(request.passkey and request.passkey.isdigit() for request in requests)


def test_a_plan_without_a_request_is_refused() -> None:
    with pytest.raises(UsageError, match="sends no request"):
        plan.make(profile({"kind": "poisson", "rate": 0.001, "duration": 0.001}), 0)


@pytest.mark.parametrize(
    ("arrivals", "prompt", "says"),
    [
        (
            {"kind": "constant", "rate": 1e-300, "requests": 2},
            {"tokens": 9},
            "due after 1e.300 s, and a run lasts at most 100,000,000 s: raise the rate",
        ),
        ({"kind": "poisson", "rate": 1e-300, "requests": 2}, {"tokens": 9}, "raise the rate"),
        (
            {"kind": "closed", "users": 1, "requests": 1},
            TALK | {"turns": 100_000_000},
            "Class a: turns: 100000000 more of them would be 100,000,000 requests; a run has at",
        ),
    ],
)
def test_a_plan_beyond_all_bounds_is_refused(
    arrivals: dict[str, Any], prompt: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        plan.make(profile(arrivals, prompt=prompt), 0)


def test_all_arrivals_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_REQUESTS", 20)
    bursts = {"kind": "gamma", "rate": 1, "burstiness": 0.001, "duration": 500}
    for arrivals in ({"kind": "constant", "rate": 1, "requests": 21}, bursts):
        with pytest.raises(UsageError, match="The arrivals would be 21 requests; a run has at"):
            plan.make(profile(arrivals), 0)


def test_all_turns_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawer, "MOST_REQUESTS", 20)
    arrivals = {"kind": "constant", "rate": 1, "requests": 8}
    with pytest.raises(UsageError, match="requests; a run has at most"):
        plan.make(profile(arrivals, prompt=TALK), 0)


def test_a_ramp_from_nothing_to_next_to_nothing_has_no_request() -> None:
    ramp = {"kind": "ramp", "rate_from": 0, "rate_to": 5e-324, "duration": 60}
    with pytest.raises(UsageError, match="sends no request"):
        plan.make(profile(ramp), 0)


def test_the_longest_draws_are_bounded() -> None:
    wide = {"kind": "lognormal", "median": 1e8, "sigma": 10}
    arrivals = {"kind": "constant", "rate": 1, "requests": 100}
    lengths = [
        request.prompt_tokens
        for request in plan.make(profile(arrivals, prompt={"tokens": wide}), 0)
    ]
    assert max(lengths) == 100_000_000


@pytest.mark.parametrize("name", ["agent", "chat", "documents", "mixed"])
def test_the_profiles_that_come_along_can_be_planned(name: str) -> None:
    path = shipped.find(name)
    loaded = profiles.load(path)
    assert len(plan.make(loaded, loaded.seed, path.parent)) > 0
    assert loaded.description


def test_the_two_million_token_profile_plans_prompts_of_that_length() -> None:
    planned = plan.make(profiles.load(shipped.find("two-million")), 0)
    assert max(request.prompt_tokens + request.output_tokens for request in planned) <= 2_097_152
    assert max(request.prompt_tokens for request in planned) == 2_097_000
