import io
import math
import random
import time
from pathlib import Path

import numpy as np
import pytest
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results import gate
from longrope_loadtest.results.compare import Change, Comparison, compared, print_comparison
from longrope_loadtest.results.results import Result
from longrope_loadtest.run.record import Record
from rich.console import Console
from scipy.stats import bootstrap

from tests.loadtest.examples import answered, crowd, failed, load_of, profile_of, result_of

A, B = Path("a"), Path("b")


def of(comparison: Comparison, figure: str, statistic: str, name: str = "chat") -> Change:
    [found] = [
        change
        for change in comparison.changes
        if (change.class_name, change.figure, change.statistic) == (name, figure, statistic)
    ]
    return found


def both(a: list[Record], b: list[Record]) -> Comparison:
    return compared(result_of(A, a), result_of(B, b))


def clustered(requests: int, seed: int) -> list[Record]:
    """Requests of 20 gaps each, that are alike within a request."""
    rng = random.Random(seed)
    found = []
    for number in range(requests):
        own = rng.lognormvariate(-4, 0.5)
        gaps = [own * rng.lognormvariate(0, 0.05) for _ in range(20)]
        found.append(answered(number, gaps=gaps))
    return found


def test_a_fifth_slower_is_seen() -> None:
    comparison = both(crowd(1000), crowd(1000, seed=1, slower=1.2))
    for figure in ("ttft", "ttft_intended", "tpot", "itl", "e2e"):
        change = of(comparison, figure, "p50")
        assert change.change == pytest.approx(1.2, rel=0.08)
        assert change.low is not None
        assert change.high is not None
        assert change.low < change.change < change.high
        assert change.significant
        assert not change.better
    faster = both(crowd(1000, slower=1.2), crowd(1000, seed=1))
    assert of(faster, "ttft", "p50").better
    assert of(faster, "output tokens", "per second").low is None


def test_no_change_is_not_seen() -> None:
    comparison = both(crowd(500), crowd(500, seed=1))
    assert comparison.changes
    assert not any(change.significant for change in comparison.changes)
    assert not comparison.notes
    same = both(crowd(500), crowd(500))
    assert all(change.change in (0, 1) for change in same.changes)


@pytest.mark.long
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = {"p50": 0, "p99": 0}
    for seed in range(100):
        comparison = both(
            crowd(300, seed=2 * seed, tokens=2), crowd(300, seed=2 * seed + 1, tokens=2)
        )
        for statistic in held:
            change = of(comparison, "ttft", statistic)
            assert change.low is not None
            assert change.high is not None
            held[statistic] += change.low <= 1 <= change.high
    # 95 expected; of fair intervals, fewer than 88 have a chance below 1 %.
    assert held["p50"] >= 88
    assert held["p99"] >= 85  # resampling knows little of a tail: about 94 % at this number


def test_is_the_bootstrap() -> None:
    a, b = crowd(300), crowd(300, seed=1, slower=1.1)
    change = of(both(a, b), "ttft", "p50")
    expected = bootstrap(
        ([record.ttft() for record in b], [record.ttft() for record in a]),
        lambda x, y, axis: np.median(x, axis) / np.median(y, axis),
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (change.low, change.high) == pytest.approx(expected, abs=0.02)


def test_gaps_of_a_request_are_resampled_together() -> None:
    a, b = clustered(300, 0), clustered(300, 1)
    change = of(both(a, b), "itl", "p50")
    assert change.low is not None
    assert change.high is not None
    gaps = [np.array([record.token_gaps for record in records]) for records in (a, b)]
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(500):
        x, y = (np.median(gaps_by_request[rng.integers(0, 300, 300)]) for gaps_by_request in gaps)
        ratios.append(y / x)
    low, high = np.percentile(ratios, (2.5, 97.5))
    assert (change.low, change.high) == pytest.approx((low, high), abs=0.03)
    # 6,000 gaps on their own would have a quarter of that.
    assert change.high - change.low > 0.1


def test_few_requests_have_no_interval_of_p99() -> None:
    comparison = both(crowd(199), crowd(500, seed=1))
    assert of(comparison, "ttft", "p99").low is None
    assert of(comparison, "itl", "p99").low is None
    assert of(comparison, "ttft", "p50").low is not None
    [note] = comparison.notes
    assert note.startswith("p99 has no interval where A or B has fewer than 200 requests")
    assert of(both(crowd(200), crowd(200)), "ttft", "p99").low is not None
    assert of(both(crowd(9), crowd(9)), "ttft", "p50").low is None


def test_shares() -> None:
    good, bad = crowd(200), crowd(170) + [failed(n) for n in range(170, 200)]
    change = of(both(good, bad), "goodput", "share")
    assert (change.a, change.b, change.kind) == (1, 0.85, "difference")
    assert change.change == pytest.approx(-0.15)
    assert change.significant
    assert not change.better
    assert not of(both(good, good), "goodput", "share").significant
    right = [answered(n, passkey="1", correct=n % 2 == 0) for n in range(100)]
    wrong = [answered(n, passkey="1", correct=n % 10 == 0) for n in range(100)]
    change = of(both(wrong, right), "passkeys", "share")
    assert change.better
    assert change.significant
    assert change.low == pytest.approx(0.28, abs=0.03)


@pytest.mark.parametrize("records", [[], [failed(0)], [answered(0, stream=False)], [answered(0)]])
def test_copes_with_little(records: list[Record]) -> None:
    for comparison in (both(records, records), both(records, crowd(20)), both(crowd(20), records)):
        out = io.StringIO()
        print_comparison(comparison, Console(file=out))
        assert not any(change.significant for change in comparison.changes if not records)


def test_gaps_of_zero() -> None:
    comparison = both([answered(n, gaps=(0.0,) * 5) for n in range(300)], crowd(300))
    change = of(comparison, "itl", "p50")
    assert (change.change, change.low) == (None, None)
    assert "or where it may be 0" in comparison.notes[0]


def test_what_is_unlike_is_said() -> None:
    profile = profile_of("chat", "long")
    changed = profile.model_dump(mode="json", exclude_unset=True)
    changed["arrivals"]["rate"] = 11
    changed["attainment"] = 0.9
    del changed["classes"]["long"]
    a = result_of(A, crowd(10), profile)
    b = result_of(
        B,
        crowd(10),
        Profile.model_validate(changed),
        model="other",
        seed=1,
        requests_sha256="cd" * 32,
        interrupted=True,
        client=load_of("The client was saturated.").as_json(),
    )
    notes = compared(a, b).notes
    assert "The models differ: A is of example, B of other." in notes
    assert "The profiles differ in arrivals.rate, attainment, classes.long." in notes
    assert "A and B sent different requests (seeds 0 and 1)." in notes
    assert "Only A has long, all." in notes
    assert "B: The run was ended by Ctrl-C; the figures are of what was over by then." in notes
    assert "B: The client was saturated." in notes


def test_a_latency_that_one_has_not_is_said() -> None:
    silent = [answered(n, output_tokens=None) for n in range(20)]
    comparison = both(crowd(20), silent)
    assert "Only A has TPOT of chat." in comparison.notes
    assert "output tokens" not in {change.figure for change in comparison.changes}


def test_json_has_every_class_and_repeats_itself() -> None:
    records = [*crowd(60), *crowd(60, "long", seed=1, slower=5)]
    first = both(records, records).as_json()
    assert list(first["classes"]) == ["chat", "long", "all"]
    assert first == both(records, records).as_json()
    assert first["classes"]["chat"][0] == {
        "figure": "ttft", "statistic": "p50", "kind": "ratio", "change": 1,
        "a": pytest.approx(0.2, abs=0.1), "b": pytest.approx(0.2, abs=0.1),
        "low": pytest.approx(0.8, abs=0.2), "high": pytest.approx(1.2, abs=0.2),
        "significant": False,
    }  # fmt: skip


def test_prints_a_table() -> None:
    out = io.StringIO()
    comparison = compared(
        result_of(A, crowd(300, "[red]x[/red]")),
        result_of(B, crowd(300, "[red]x[/red]", seed=1, slower=1.5), requests_sha256="0"),
    )
    print_comparison(comparison, Console(file=out, width=120))
    text = out.getvalue()
    assert "[red]x[/red]" in text
    assert "worse" in text
    assert "A and B sent different requests." in text
    assert "repeat both" in text


@pytest.mark.parametrize(
    ("slower", "above", "fails"), [(1.2, 1.1, True), (1.2, 1.4, False), (0.5, 1, False)]
)
def test_a_gate_fails_what_is_too_slow(slower: float, above: float, fails: bool) -> None:
    sentences = gate.failures(both(crowd(1000), crowd(1000, seed=1, slower=slower)), above)
    assert bool(sentences) == fails
    if fails:
        assert sentences[0].startswith("chat: TTFT p50 is 1.")
        assert sentences[0].endswith("above 1.1.")


def test_a_gate_fails_what_answers_less() -> None:
    fewer = crowd(170) + [failed(number) for number in range(170, 200)]
    assert gate.failures(both(crowd(200), fewer), 2) == ["chat: goodput share fell by 15.0 points."]
    none = [failed(number) for number in range(200)]
    fell, *_ = gate.failures(both(crowd(200), none), 2)
    assert fell == "chat: goodput share fell by 100.0 points."


def test_a_gate_fails_what_the_baseline_alone_has() -> None:
    silent = [answered(n, output_tokens=None) for n in range(20)]
    assert gate.failures(both(crowd(20), silent), 9) == ["Only the baseline has TPOT of chat."]
    assert gate.failures(both(silent, crowd(20)), 9) == []
    assert gate.failures(both(crowd(5), crowd(5, "long")), 9) == ["Only the baseline has chat."]
    two_classes = both([*crowd(20), *crowd(20, "long", seed=1)], crowd(20))
    assert gate.failures(two_classes, 9) == ["Only the baseline has long, all."]


@pytest.mark.parametrize("why", ["interrupted", "stopped"])
def test_a_gate_judges_no_part_of_a_run(why: str) -> None:
    whole, part = result_of(A, crowd(20)), result_of(B, crowd(20), **{why: True})
    for first, second in ((whole, part), (part, whole)):
        with pytest.raises(UsageError, match=f"two whole results: the run of {B} ended early"):
            gate.failures(compared(first, second), 9)


@pytest.mark.parametrize("above", [math.nan, math.inf])
def test_a_gate_needs_a_number(above: float) -> None:
    """Nothing is above NaN: everything would pass."""
    with pytest.raises(UsageError, match=f"--fail-above {above}: must be a number such as 1.1"):
        gate.failures(both(crowd(20), crowd(20, slower=5)), above)


def test_a_gate_passes_what_is_due_to_chance() -> None:
    a, b = crowd(12), crowd(12, seed=3)
    ratio = of(both(a, b), "ttft", "p50").change
    assert ratio is not None
    slow, fast = (a, b) if ratio < 1 else (b, a)
    assert max(ratio, 1 / ratio) > 1.02
    assert gate.failures(both(fast, slow), 1.02) == []


def test_a_gate_that_can_judge_nothing_says_so() -> None:
    with pytest.raises(UsageError, match="need 10 complete requests"):
        gate.failures(both(crowd(9), crowd(1000)), 1.1)
    with pytest.raises(UsageError, match="no latency to judge"):
        gate.failures(both([], crowd(1000)), 1.1)
    (lacking,) = gate.failures(both(crowd(1000), []), 1.1)
    assert lacking.startswith("Only the baseline has TTFT of chat, ")


@pytest.mark.long
def test_fifty_thousand_requests() -> None:
    a: Result = result_of(A, crowd(50_000))
    b: Result = result_of(B, crowd(50_000, seed=1))
    began = time.process_time()
    compared(a, b)
    assert time.process_time() - began < 20
