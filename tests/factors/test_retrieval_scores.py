"""Intervals against known values, and the rule of the effective length."""

import math
from pathlib import Path

import pytest
from longrope_factors.evaluating import results
from longrope_factors.evaluating.retrieval import scores
from longrope_factors.evaluating.retrieval.results import Answer, Asking
from scipy.stats import binomtest


@pytest.mark.parametrize(("found", "of"), [(0, 10), (3, 10), (10, 10), (1, 1), (499, 500), (8, 12)])
def test_wilson(found: int, of: int) -> None:
    expected = binomtest(found, of).proportion_ci(0.95, method="wilson")
    assert scores.wilson(found / of, of) == pytest.approx((expected.low, expected.high))


def test_wilson_by_hand() -> None:
    # The half of ten: 0.5 +- 1.96 * sqrt(0.025 + 0.0096) / 1.384.
    assert scores.wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def asking(length: int, task: str, found: list[bool], method: str = "ntk") -> Asking:
    return Asking(
        model="example",
        weights_sha256="0" * 64,
        dtype="bfloat16",
        device="cpu",
        length=length,
        method=method,
        fingerprint="0" * 16,
        task=task,
        form="plain",
        facts=len(found),
        document=0,
        seed=0,
        filler_sha256=None,
        tokens=length - 3,
        answers=tuple(
            Answer(
                question="?",
                answers=(str(number),),
                depths=(number / len(found),),
                found=(is_found,),
                exact=is_found and number % 2 == 0,
                loss=0.5 * number,
                said="",
            )
            for number, is_found in enumerate(found)
        ),
        seconds=1.0,
        peak_memory_bytes=2**30,
        date="2026-11-26",
        tool_version="0.1.0",
    )


def test_a_score() -> None:
    found = scores.score(
        [asking(100, "a", [True, True, False, True]), asking(100, "a", [False] * 4)]
    )
    assert found.found == 3 / 8
    assert found.exact == 1 / 8
    assert found.loss == pytest.approx(0.75)
    assert (found.low, found.high) == scores.wilson(3 / 8, 8)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_read_back(loss: float, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    made = asking(100, "a", [True])
    answer = made.answers[0].model_copy(update={"loss": loss})
    results.append(path, made.model_copy(update={"answers": (answer,)}))
    (read,) = results.read(path, Asking)
    assert str(read.answers[0].loss) == str(loss)


def test_tasks_weigh_the_same() -> None:
    askings = [asking(100, "a", [True] * 9 + [False]), asking(100, "b", [True, False])]
    assert scores.averages(askings) == {100: pytest.approx(0.7)}


def test_a_length_without_all_tasks_has_no_average() -> None:
    askings = [asking(100, "a", [True]), asking(100, "b", [True]), asking(200, "a", [True])]
    assert scores.averages(askings) == {100: 1.0}


@pytest.mark.parametrize(
    ("averages", "short", "expected"),
    [
        ({4: 0.8, 8: 0.7, 16: 0.69, 32: 0.67}, 4, 16),
        ({4: 0.8, 8: 0.68}, 4, 8),  # exactly 85 %
        ({4: 0.8, 8: 0.6, 16: 0.8}, 4, 4),  # a longer one that passes again does not count
        ({4: 0.5, 8: 0.9, 16: 0.43}, 4, 16),
        ({2: 0.1, 4: 1.0, 8: 0.9}, 4, 8),  # a shorter one has no part
        ({4: 0.0, 8: 0.5}, 4, None),
        ({4: 1.0}, 4, 4),
    ],
)
def test_effective_length(averages: dict[int, float], short: int, expected: int | None) -> None:
    assert scores.effective_length(averages, short) == expected
    words = scores.in_words(averages, short)
    assert (f"effective length {expected:,}" if expected else "no effective length") in words


def test_effective_lengths_by_method() -> None:
    askings = [
        asking(length, "a", found, method)
        for method, of_long in (("ntk", [True, True]), ("pi", [False, True]))
        for length, found in ((4, [True, True]), (8, of_long))
    ]
    assert scores.effective_lengths(askings, 4) == {"ntk": 8, "pi": 4}
