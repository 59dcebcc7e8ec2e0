import math
import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_loadtest.profiles.arrivals import Constant, Gamma, Poisson, Ramp
from pydantic import ValidationError

SEEDS = st.integers(0, 2**32)
RATES = st.floats(0.01, 2000)
MANY = 4000
# Deviations of a mean that are allowed: one of many million runs is beyond them.
SIGMAS = 6


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise([0.0, *times])]


@given(RATES, st.integers(1, 300))
def test_constant_arrivals_are_evenly_spaced_from_0(rate: float, number: int) -> None:
    times = list(Constant(kind="constant", rate=rate, requests=number).times(random.Random(0)))
    assert times == [index / rate for index in range(number)]


@given(SEEDS, RATES)
def test_poisson_arrivals_have_their_rate_and_exponential_gaps(seed: int, rate: float) -> None:
    process = Poisson(kind="poisson", rate=rate, requests=MANY)
    seen = gaps(list(process.times(random.Random(seed))))
    assert statistics.mean(seen) * rate == pytest.approx(1, abs=SIGMAS / math.sqrt(MANY))
    # e^-1 of exponential gaps are longer than their mean.
    longer = sum(gap > 1 / rate for gap in seen) / MANY
    assert longer == pytest.approx(math.exp(-1), abs=SIGMAS * 0.5 / math.sqrt(MANY))


@given(SEEDS, RATES, st.floats(0.2, 20))
def test_gamma_arrivals_have_their_rate_and_burstiness(
    seed: int, rate: float, burstiness: float
) -> None:
    process = Gamma(kind="gamma", rate=rate, burstiness=burstiness, requests=MANY)
    seen = gaps(list(process.times(random.Random(seed))))
    # Of a gamma's gaps, variance / mean^2 is 1 / shape.
    error = SIGMAS * math.sqrt((1 / burstiness) / MANY)
    assert statistics.mean(seen) * rate == pytest.approx(1, abs=error)
    variation = statistics.variance(seen) / statistics.mean(seen) ** 2
    # The variance of a variance has the gamma's excess kurtosis, 6 / shape.
    error = 2 * SIGMAS * math.sqrt((2 + 6 / burstiness) / MANY)
    assert variation * burstiness == pytest.approx(1, abs=error)


@given(SEEDS, st.floats(0, 200), st.floats(0, 200), st.floats(10, 100))
def test_a_ramps_rate_goes_evenly_from_one_to_the_other(
    seed: int, rate_from: float, rate_to: float, duration: float
) -> None:
    if rate_from + rate_to < 1:
        rate_to += 1
    process = Ramp(kind="ramp", rate_from=rate_from, rate_to=rate_to, duration=duration)
    times = list(process.times(random.Random(seed)))
    assert times == sorted(times)
    assert all(0 <= time < duration for time in times)
    for quarter in range(4):
        begin, end = quarter / 4, (quarter + 1) / 4
        mean_rate = rate_from + (rate_to - rate_from) * (begin + end) / 2
        due = mean_rate * duration / 4
        seen = sum(begin * duration <= time < end * duration for time in times)
        assert abs(seen - due) <= SIGMAS * math.sqrt(due) + SIGMAS


@given(SEEDS, st.floats(1, 50), st.floats(0.1, 20))
def test_a_duration_ends_each_process(seed: int, rate: float, duration: float) -> None:
    for process in (
        Constant(kind="constant", rate=rate, duration=duration),
        Poisson(kind="poisson", rate=rate, duration=duration),
        Gamma(kind="gamma", rate=rate, burstiness=0.5, duration=duration),
    ):
        times = list(process.times(random.Random(seed)))
        assert times == sorted(times)
        assert all(0 <= time < duration for time in times)


def test_the_first_of_requests_and_duration_ends_a_process() -> None:
    by_requests = Constant(kind="constant", rate=10, duration=1, requests=3)
    by_duration = Constant(kind="constant", rate=10, duration=1, requests=30)
    assert len(list(by_requests.times(random.Random(0)))) == 3
    assert len(list(by_duration.times(random.Random(0)))) == 10


def test_a_process_without_end_is_refused() -> None:
    with pytest.raises(ValidationError, match="say when it ends"):
        Poisson(kind="poisson", rate=1)


def test_a_ramp_that_sends_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="both 0"):
        Ramp(kind="ramp", rate_from=0, rate_to=0, duration=1)
