"""How children are made: mutation and crossover."""

import math
import random

from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.space import Space

_ATTENTION_MOVE = 0.02
_TRIES = 64


def mutated(parent: Genome, space: Space, chance: float, warp: float, rng: random.Random) -> Genome:
    """A child of one parent: warped with probability `warp`, else by the papers' mutation.

    In the papers' mutation, each factor is redrawn with probability `chance` from the grid values
    between its neighbours. n_hat, the attention factor and the cuts also change with probability
    `chance` each.
    """
    factors = (
        _warped(parent, space, rng) if rng.random() < warp else _redrawn(parent, space, chance, rng)
    )
    start_tokens, attention_factor = parent.start_tokens, parent.attention_factor
    if rng.random() < chance:
        start_tokens = rng.choice(space.start_tokens)
    if rng.random() < chance:
        attention_factor = space.rounded_attention(
            attention_factor + rng.gauss(0.0, _ATTENTION_MOVE)
        )
    moves = [rng.randint(-2, 2) if rng.random() < chance else 0 for _ in parent.cuts]
    cuts = space.shape.moved(parent.cuts, moves, space.pairs)
    return space.shaped(factors, start_tokens, attention_factor, cuts)


def crossed(one: Genome, other: Genome, space: Space, rng: random.Random) -> Genome | None:
    """A child with a run of `other`'s factors among `one`'s, and other values from either parent.

    None if no run was found that keeps the factors monotone and gives a new genome.
    """
    for _ in range(_TRIES):
        start, end = sorted(rng.sample(range(space.pairs + 1), 2))
        factors = one.factors[:start] + other.factors[start:end] + one.factors[end:]
        child = space.shaped(
            factors,
            rng.choice((one, other)).start_tokens,
            rng.choice((one, other)).attention_factor,
            rng.choice((one, other)).cuts,
        )
        if space.holds(child) and child not in (one, other):
            return child
    return None


def _redrawn(parent: Genome, space: Space, chance: float, rng: random.Random) -> tuple[float, ...]:
    factors = list(parent.factors)
    for i in range(len(factors)):
        if rng.random() < chance:
            low = factors[i - 1] if i else 1.0
            high = factors[i + 1] if i + 1 < len(factors) else space.upper
            drawn = space.rounded(rng.uniform(low, max(low, high)))
            factors[i] = min(max(drawn, low), max(low, high))
    return tuple(factors)


def _warped(parent: Genome, space: Space, rng: random.Random) -> tuple[float, ...]:
    """The whole curve, moved and stretched along the pairs, with its logarithm scaled.

    This is not in the papers. Changing single genes hardly moves a ramp, and the methods differ
    mainly in their ramps.
    """
    logs = [math.log(factor) for factor in parent.factors]
    last = len(logs) - 1
    shift = rng.gauss(0.0, 0.05 * len(logs))
    stretch = math.exp(rng.gauss(0.0, 0.15))
    scale = math.exp(rng.gauss(0.0, 0.15))
    middle = rng.uniform(0.0, last)
    warped = []
    for i in range(len(logs)):
        place = min(max(middle + (i - middle) * stretch + shift, 0.0), float(last))
        below = min(int(place), last - 1) if last else 0
        above = min(below + 1, last)
        between = logs[below] + (logs[above] - logs[below]) * (place - below)
        warped.append(space.rounded(math.exp(between * scale)))
    return tuple(warped)
