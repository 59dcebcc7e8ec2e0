import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.figures import spread, summary, values

from tests.loadtest.mocking import profile
from tests.loadtest.records import record

ONCE = {"kind": "constant", "rate": 1, "requests": 1}


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_percentiles_are_numpys(numbers: list[float]) -> None:
    found = spread(numbers)
    assert found is not None
    for at in (50, 90, 95, 99):
        assert found[f"p{at}"] == np.percentile(numbers, at)
    assert found["max"] == max(numbers)
    assert found["mean"] == pytest.approx(np.mean(numbers))
    assert found["count"] == len(numbers)


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None


def test_latencies_are_of_complete_counted_requests() -> None:
    records = [
        record(0, warm_up=True, token_times=(9, 10)),
        record(1, token_times=(0.1, 0.3)),
        record(2, late=1, token_times=(0.2, 0.4, 0.8)),
        record(3, outcome="failed", token_times=(9, 10)),
        record(4, outcome="cancelled", token_times=(9, 10)),
    ]
    for metric, seen in {
        "ttft": [0.1, 0.2],
        "ttft_intended": [0.1, 1.2],
        "e2e": [0.3, 0.8],
        "e2e_intended": [0.3, 1.8],
        "tpot": [0.2, 0.3],
        "itl": [0.2, 0.2, 0.4],
    }.items():
        assert values(records, metric) == pytest.approx(seen)


def test_rates_are_over_the_counted_part() -> None:
    records = [
        record(0, at=0, warm_up=True),
        record(1, at=10, token_times=(0.1, 1)),
        record(2, at=12, token_times=(0.5, 3)),
    ]
    found = summary(records, profile(ONCE))["a"]
    assert found["seconds"] == 5  # from when the first counted one was due to the last one's end
    assert found["requests_per_second"] == pytest.approx(0.4)
    assert found["prompt_tokens_per_second"] == pytest.approx(32 / 5)
    assert found["output_tokens_per_second"] == pytest.approx(4 / 5)


def test_a_request_that_hangs_does_not_lower_the_rates() -> None:
    records = [record(number, at=number) for number in range(10)]
    records.append(record(10, at=5, outcome="failed", error="stalled", ended=605))
    assert summary(records, profile(ONCE))["a"]["seconds"] == pytest.approx(9.16)
    records.append(record(11, at=60, outcome="failed", error="http 503", ended=60.1))
    assert summary(records, profile(ONCE))["a"]["seconds"] == 60


def test_a_server_that_counts_no_tokens_has_no_rate_of_them() -> None:
    silent = {"prompt_tokens": None, "output_tokens": None}
    found = summary([record(0, **silent), record(1, **silent)], profile(ONCE))["a"]
    assert found["prompt_tokens_per_second"] is found["output_tokens_per_second"] is None
    assert found["uncounted"] == 2
    some = summary([record(0, **silent), record(1)], profile(ONCE))["a"]
    assert some["output_tokens_per_second"] == pytest.approx(4 / some["seconds"])
    assert some["uncounted"] == 1
    assert summary([], profile(ONCE))["a"]["output_tokens_per_second"] is None


def test_requests_are_counted_by_what_became_of_them() -> None:
    records = [
        record(0, warm_up=True),
        record(1, retries=2),
        record(2, outcome="failed", error="http 503"),
        record(3, outcome="failed", error="http 503"),
        record(4, outcome="failed", error="stalled"),
        record(5, outcome="cancelled"),
        record(6, outcome="interrupted"),
    ]
    found = summary(records, profile(ONCE))["a"]
    assert found["requests"] == {
        "sent": 7,
        "warm_up": 1,
        "complete": 1,
        "failed": 3,
        "cancelled": 1,
        "interrupted": 1,
        "retries": 2,
    }
    assert found["errors"] == {"http 503": 2, "stalled": 1}


def test_sets_promotions_and_cache_hits_are_told() -> None:
    records = [
        record(0, factor_set="8192", promoted_to="16384", cached_tokens=8),
        record(1, factor_set="8192", cached_tokens=0),
        record(2, factor_set="131072"),
    ]
    found = summary(records, profile(ONCE))["a"]
    assert found["factor_sets"] == {"131072": 1, "8192": 2}
    assert found["promotions"] == 1
    assert found["cached_share"] == pytest.approx(8 / 48)


def test_a_server_that_says_no_cache_hits_has_no_share() -> None:
    assert summary([record(0)], profile(ONCE))["a"]["cached_share"] is None


def test_passkeys_are_told_by_length() -> None:
    records = [
        record(0, prompt_tokens=1000, correct=True),
        record(1, prompt_tokens=1024, correct=False),
        record(2, prompt_tokens=1025, correct=True),
        record(3, prompt_tokens=None, planned_prompt_tokens=3000, correct=True),
        record(4),
    ]
    found = summary(records, profile(ONCE))["a"]["passkeys"]
    assert (found["asked"], found["correct"]) == (4, 3)
    lengths = [(row["up_to_tokens"], row["asked"], row["correct"]) for row in found["by_length"]]
    assert lengths == [(1024, 2, 1), (2048, 1, 1), (4096, 1, 1)]


def test_several_classes_have_figures_of_all_together() -> None:
    each = {"prompt": {"kind": "words", "tokens": 1}, "output_tokens": 1}
    both = Profile.model_validate({"arrivals": ONCE, "classes": {"a": each, "b": each}})
    found = summary([record(0), record(1, class_name="b")], both)
    assert list(found) == ["a", "b", "all"]
    assert [found[name]["requests"]["complete"] for name in found] == [1, 1, 2]


def test_a_class_without_a_request_has_figures_too() -> None:
    found = summary([], profile(ONCE))["a"]
    assert found["requests"]["sent"] == 0
    assert found["latency"]["ttft"] is None
    assert found["goodput"]["share_of_requests"] is found["seconds"] is None
    assert found["requests_per_second"] is found["output_tokens_per_second"] is None
