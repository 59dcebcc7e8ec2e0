import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_loadtest.profiles.distributions import Distribution, draw_tokens
from pydantic import TypeAdapter, ValidationError

SEEDS = st.integers(0, 2**32)
SIZES = st.floats(0.1, 1e6)


def distribution(content: Any) -> Distribution:
    return TypeAdapter(Distribution).validate_python(content)


def draws(content: Any, seed: int, number: int = 50) -> list[float]:
    rng = random.Random(seed)
    one = distribution(content)
    return [one.draw(rng) for _ in range(number)]


@given(SEEDS, SIZES, SIZES, SIZES, st.floats(0, 3))
def test_draws_stay_within_their_bounds(
    seed: int, one: float, other: float, middle: float, spread: float
) -> None:
    low, high = sorted((one, other))
    bounds = {"min": low, "max": high}
    for content in (
        {"kind": "uniform", **bounds},
        {"kind": "normal", "mean": middle, "deviation": spread * middle, **bounds},
        {"kind": "lognormal", "median": middle, "sigma": spread, **bounds},
        {"kind": "exponential", "mean": middle, **bounds},
    ):
        assert all(low <= value <= high for value in draws(content, seed))


@given(SEEDS, SIZES, st.floats(0, 3))
def test_without_bounds_no_draw_is_negative(seed: int, middle: float, spread: float) -> None:
    for content in (
        {"kind": "normal", "mean": middle, "deviation": spread * middle},
        {"kind": "lognormal", "median": middle, "sigma": spread},
        {"kind": "exponential", "mean": middle},
    ):
        assert all(value >= 0 for value in draws(content, seed))


@given(SEEDS, st.floats(0, 3))
def test_a_length_is_a_whole_number_of_tokens_and_at_least_1(seed: int, mean: float) -> None:
    content = {"kind": "exponential", "mean": mean} if mean else 0
    rng = random.Random(seed)
    for _ in range(20):
        tokens = draw_tokens(distribution(content), rng)
        assert isinstance(tokens, int)
        assert tokens >= 1


def test_a_number_is_a_constant() -> None:
    assert draws(7, 0, 3) == draws({"kind": "constant", "value": 7}, 0, 3) == [7, 7, 7]


def test_means_and_medians_are_what_was_asked() -> None:
    many = 20_000
    assert statistics.mean(draws({"kind": "exponential", "mean": 5}, 1, many)) == pytest.approx(
        5, rel=0.05
    )
    normal = {"kind": "normal", "mean": 100, "deviation": 10}
    assert statistics.stdev(draws(normal, 1, many)) == pytest.approx(10, rel=0.05)
    lognormal = {"kind": "lognormal", "median": 150, "sigma": 0.8}
    assert statistics.median(draws(lognormal, 1, many)) == pytest.approx(150, rel=0.05)


def test_choices_come_as_often_as_their_weights_say() -> None:
    content = {"kind": "choice", "values": [1, 2], "weights": [3, 1]}
    assert draws(content, 1, 20_000).count(1) / 20_000 == pytest.approx(0.75, abs=0.02)
    even = {"kind": "choice", "values": [1, 2]}
    assert draws(even, 1, 20_000).count(1) / 20_000 == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"kind": "uniform", "min": 5, "max": 4}, "max (4) is below min (5)"),
        ({"kind": "normal", "mean": 5, "deviation": 1, "min": 9, "max": 3}, "max (3) is below"),
        ({"kind": "choice", "values": [1, 2], "weights": [1]}, "2 values but 1 weights"),
        ({"kind": "choice", "values": []}, "at least 1 item"),
        ({"kind": "normal", "mean": 5}, "Field required"),
        ({"kind": "zipf"}, "'zipf'"),
        (-1, "greater than or equal to 0"),
        ("many", "dict"),
        (True, "dict"),
    ],
)
def test_a_wrong_distribution_is_refused(content: Any, says: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        distribution(content)
    assert says in str(refusal.value)
