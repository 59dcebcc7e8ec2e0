from typing import Any

import pytest
from longrope_loadtest.profiles.profile import Slo
from longrope_loadtest.results.slo import counted, goodput, met

from tests.loadtest.mocking import profile
from tests.loadtest.records import record

ONCE = {"kind": "constant", "rate": 1, "requests": 1}


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        ({"ttft": 0.1}, True),
        ({"ttft": 0.09}, False),
        ({"e2e": 0.2}, True),
        ({"e2e": 0.15}, False),
        ({"tpot": 0.03}, True),
        ({"tpot": 0.01}, False),
        ({"itl": 0.03}, True),
        ({"itl": 0.01}, False),
        ({"ttft": 0.2, "e2e": 0.2, "tpot": 0.1, "itl": 0.1}, True),
        ({"ttft": 0.2, "e2e": 0.2, "tpot": 0.1, "itl": 0.001}, False),
        ({}, True),
    ],
)
def test_each_objective_decides(slo: dict[str, float], good: bool) -> None:
    assert met(record(), Slo(**slo)) is good


def test_itl_is_of_each_gap_and_tpot_of_their_mean() -> None:
    bursty = record(token_times=(0.1, 0.1, 0.1, 0.4))
    assert met(bursty, Slo(tpot=0.11))
    assert not met(bursty, Slo(itl=0.29))


def test_ttft_and_e2e_count_from_when_the_request_was_due() -> None:
    late = record(late=0.5)
    assert not met(late, Slo(ttft=0.2))
    assert not met(late, Slo(e2e=0.3))
    assert met(late, Slo(tpot=0.03))


def test_an_answer_of_one_token_has_no_gap_to_miss() -> None:
    one = record(token_times=(0.1,))
    assert met(one, Slo(tpot=1e-6, itl=1e-6))


def test_where_tokens_are_not_counted_events_are() -> None:
    uncounted = record(token_times=(0.1, 0.2, 0.4))
    uncounted.output_tokens = None
    assert met(uncounted, Slo(tpot=0.151))
    assert not met(uncounted, Slo(tpot=0.149))


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "interrupted"])
def test_only_a_complete_request_meets_objectives(outcome: str) -> None:
    assert not met(record(outcome=outcome), Slo())
    assert not met(record(outcome=outcome), None)


def test_warm_up_and_what_we_left_ourselves_is_not_counted() -> None:
    records = [
        record(0, warm_up=True),
        record(1),
        record(2, outcome="cancelled"),
        record(3, outcome="interrupted"),
        record(4, outcome="failed"),
    ]
    assert [counted_record.number for counted_record in counted(records)] == [1, 4]


def test_goodput_is_of_requests_and_of_tokens() -> None:
    made = profile(ONCE, slo={"ttft": 0.2})
    records = [record(0), record(1, late=1, token_times=(0.1,) * 12), record(2, outcome="failed")]
    records[2].output_tokens = None
    found = goodput(records, made, seconds=2)
    assert (found.requests, found.good_requests) == (3, 1)
    seen: dict[str, Any] = found.as_json()
    assert seen["share_of_requests"] == pytest.approx(1 / 3)
    assert seen["share_of_output_tokens"] == pytest.approx(4 / 16)
    assert seen["good_requests_per_second"] == 0.5
    assert seen["good_output_tokens_per_second"] == 2


def test_goodput_of_nothing_is_unknown() -> None:
    assert goodput([], profile(ONCE), None).as_json() == {
        "requests": 0,
        "good_requests": 0,
        "share_of_requests": None,
        "share_of_output_tokens": None,
        "good_requests_per_second": None,
        "good_output_tokens_per_second": None,
    }


def test_goodput_of_tokens_that_nobody_counted_is_unknown() -> None:
    uncounted = record(output_tokens=None)
    seen = goodput([uncounted], profile(ONCE), seconds=2).as_json()
    assert seen["share_of_output_tokens"] is seen["good_output_tokens_per_second"] is None
    assert (seen["share_of_requests"], seen["good_requests_per_second"]) == (1, 0.5)
    seen = goodput([record(outcome="failed", output_tokens=None)], profile(ONCE), 2).as_json()
    assert (seen["share_of_requests"], seen["share_of_output_tokens"]) == (0, None)
    assert seen["good_output_tokens_per_second"] == 0
