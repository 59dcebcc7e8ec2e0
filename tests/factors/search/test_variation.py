"""Children are in the space, whatever their parents."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.shape import (
    Covering,
    Critical,
    Monotone,
    Piecewise,
    Shape,
    theoretical_critical_pair,
)
from longrope_factors.search.evolving.variation import crossed, mutated

from tests.factors.search import toy

SHAPES = [Monotone(), Covering(18, toy.RATIO), Piecewise(toy.RATIO), Critical(18, False)]


def is_in(genome: Genome, shape: Shape) -> bool:
    space = toy.space(shape)
    return (
        space.holds(genome)
        and (not isinstance(shape, Covering) or min(genome.factors[18:]) >= toy.RATIO)
        and all(1.0 <= factor <= space.upper for factor in genome.factors)
        and genome.start_tokens in space.start_tokens
        and space.attention[0] <= genome.attention_factor <= space.attention[1]
    )


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), warp=st.sampled_from([0.0, 0.5, 1.0]))
def test_generations_stay_in_the_space(shape: Shape, seed: int, warp: float) -> None:
    rng = random.Random(seed)
    space = toy.space(shape)
    parents = toy.seeds(space)
    for _ in range(20):
        child = mutated(rng.choice(parents), space, 0.3, warp, rng)
        if space.holds(child):
            assert is_in(child, shape)
            parents.append(child)
        one, other = rng.sample(parents, 2)
        if (crossing := crossed(one, other, space, rng)) is not None:
            assert is_in(crossing, shape)
            parents.append(crossing)
    assert len(parents) > len(toy.seeds(space))


def test_the_papers_mutation_keeps_monotone_without_a_second_try() -> None:
    space = toy.space()
    rng = random.Random(0)
    genome = toy.seeds(space)[1]
    for _ in range(200):
        genome = mutated(genome, space, 0.3, 0.0, rng)
        assert space.holds(genome)


def test_a_crossing_is_made_of_its_parents() -> None:
    space = toy.space()
    pi, ntk, _ = toy.seeds(space)
    child = crossed(pi, ntk, space, random.Random(0))
    assert child is not None
    assert all(
        factor in pair
        for factor, pair in zip(
            child.factors, zip(pi.factors, ntk.factors, strict=True), strict=True
        )
    )


def test_llama3s_theoretical_critical_dimension() -> None:
    # LongRoPE2, section 3.1: dimension 70 of 128 for LLaMA3-8B (theta 500,000, window 8,192).
    plain = [500000.0 ** (-2 * pair / 128) for pair in range(64)]
    assert theoretical_critical_pair(plain, 8192) == 35
    # Trained on 8 times as much with its slow pairs slowed by 8: the same pair.
    assert theoretical_critical_pair([frequency / 8 for frequency in plain], 8 * 8192) == 35
    assert theoretical_critical_pair(plain, 2**31) == 64


def test_ntk_below_the_critical_pair() -> None:
    factors = Critical(4, True).shaped((9.0,) * 4 + (16.0, 20.0), (4,))
    assert factors == pytest.approx((1.0, 2.0, 4.0, 8.0, 16.0, 20.0))


def test_pieces() -> None:
    shape = Piecewise(4.0)
    assert shape.shaped((2.0, 3.0, 5.0, 2.0), (1, 3)) == (1.0, 3.0, 4.0, 4.0)
    assert shape.moved((1, 3), [5, -2], 4) == (1, 4)
