"""The search on a toy whose optimum is known."""

import numpy as np
import pytest
from longrope_factors.search.evolving.shape import Critical, Monotone, Piecewise, Shape
from longrope_factors.search.settings import Settings

from tests.factors.search import toy

PAPERS = {"warp": 0.0, "racing": None}


def excesses(**settings: float | None) -> tuple[np.ndarray, float]:
    """How far above the optimum three seeds end, and the share of evaluations that were made."""
    runs = [toy.search(Settings(seed=seed, **settings)) for seed in range(3)]  # type: ignore[arg-type]
    share = np.mean([history[-1].measured / history[-1].full for _, history in runs])
    return np.array([toy.Toy().excess(genome) for genome, _ in runs]), float(share)


@pytest.mark.long
def test_the_optimum_is_found_with_a_third_of_the_evaluations() -> None:
    at_first = min(toy.Toy().excess(seed) for seed in toy.seeds(toy.space()))
    full, everything = excesses(**PAPERS)
    raced, share = excesses(warp=0.0)
    warped, warped_share = excesses()
    print(
        f"\nexcess loss over the optimum, mean of 3 seeds: best method {at_first:.4f}, "
        f"papers' search {full.mean():.4f}, with racing {raced.mean():.4f} "
        f"(ratio of evaluations {share:.2f}), with racing and warps {warped.mean():.4f} "
        f"(ratio {warped_share:.2f})"
    )
    assert everything == 1.0
    assert full.max() < at_first / 10
    assert raced.max() < at_first / 10
    assert share <= 1 / 3
    assert warped.max() < at_first / 20
    assert warped_share <= 1 / 3


def test_what_is_found_looks_like_the_optimum() -> None:
    genome, _ = toy.search(Settings())
    assert np.abs(np.log(np.array(genome.factors) / toy.RAMP)).mean() < 0.06
    assert genome.attention_factor == pytest.approx(toy.ATTENTION, abs=0.02)
    assert genome.start_tokens in (4, 8, 12)


def test_a_seed_decides_everything() -> None:
    short = {"population": 16, "iterations": 4, "parents": 8}
    one, history = toy.search(Settings(**short, seed=3))
    again, same = toy.search(Settings(**short, seed=3))
    other, _ = toy.search(Settings(**short, seed=4))
    assert (one, history) == (again, same)
    assert one != other


def test_progress_never_gets_worse() -> None:
    _, history = toy.search(Settings(population=16, iterations=10, parents=8))
    best = [iteration.best.mean(toy.DOCUMENTS) for iteration in history]
    assert best == sorted(best, reverse=True)
    assert [iteration.number for iteration in history] == list(range(11))


def test_more_iterations_go_on_from_fewer() -> None:
    short, long = (
        toy.search(Settings(population=8, iterations=count, parents=4))[1] for count in (3, 6)
    )
    assert long[:4] == short


@pytest.mark.parametrize(
    "shape", [Monotone(), Piecewise(toy.RATIO), Critical(18, False), Critical(18, True)]
)
def test_every_shape_gets_better_than_its_seeds(shape: Shape) -> None:
    genome, _ = toy.search(Settings(population=16, iterations=10, parents=8), shape)
    space = toy.space(shape)
    assert space.holds(genome)
    assert space.shape.shaped(genome.factors, genome.cuts) == pytest.approx(genome.factors)
    assert toy.Toy().excess(genome) < min(toy.Toy().excess(seed) for seed in toy.seeds(space))
    if shape == Critical(18, True):
        assert genome.cuts == (18,)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"population": 0}, "greater than or equal to 1"),
        ({"chance": 1.5}, "less than or equal to 1"),
        ({"racing": -1.0}, "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_search_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**wrong)  # type: ignore[arg-type]
