"""A server that stands still for five seconds, seen from an open and from a closed loop."""

from statistics import median

import pytest
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.figures import summary

from tests.loadtest.mocking import MockServer, driven, matched

FROM, FOR = 1.5, 5.0
MOCK = {"first": 0.01, "gap": 0.005, "tokens": 4, "stall_from": FROM, "stall_for": FOR}
EACH = {"prompt": {"kind": "words", "tokens": 8}, "output_tokens": 4, "extra": {"mock": MOCK}}


@pytest.mark.long
def test_an_open_loop_shows_a_stall_and_a_closed_loop_omits_all_but_one_request_of_it(
    server: MockServer,
) -> None:
    arrivals = {
        "open": {"kind": "constant", "rate": 20, "duration": 8},
        "closed": {"kind": "closed", "users": 1, "requests": 120},
    }
    classes = {
        name: {**EACH, "arrivals": class_arrivals} for name, class_arrivals in arrivals.items()
    }
    run = driven(Profile.model_validate({"classes": classes}), server.url)
    pairs = matched(run, server.truths())
    figures = summary(run.records, run.profile)

    # The stall is counted from the arrival of the first request.
    zero = median(t.arrived - r.intended for r, t in pairs if r.class_name == "open")
    end = min(t.arrived for _, t in pairs) - zero + FROM + FOR
    records = [r for r in run.records if r.class_name == "open"]
    within = [r for r in records if end - FOR + 0.1 < r.intended < end - 0.1]
    assert len(within) == pytest.approx(20 * (FOR - 0.2), abs=2)
    waited = [((r.ttft("intended") or 0), end - r.intended) for r in within]
    # Of the seconds that they waited, 2.5 in the mean: the hundred answers at the end of the stall
    # take a busy machine some time.
    assert abs(median(seen - true for seen, true in waited)) < 1
    latency = figures["open"]["latency"]["e2e_intended"]
    assert latency["max"] == pytest.approx(FOR, abs=1)
    # 5 of 8 seconds are within the stall: half of the users wait for almost a second or longer.
    assert latency["p50"] > 0.8
    assert latency["p90"] > 4

    closed = [r for r in run.records if r.class_name == "closed"]
    assert sum((r.e2e("intended") or 0) > 1 for r in closed) == 1
    latency = figures["closed"]["latency"]["e2e_intended"]
    assert latency["max"] > FOR
    assert latency["p99"] < 1
