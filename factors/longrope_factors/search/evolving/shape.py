"""The shapes that a vector of relative factors may take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Vector = tuple[float, ...]


class Shape(Protocol):
    """Which vectors are in the space: `cuts` bound the part that is free."""

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """The cuts of a seed."""

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """The cuts after each has moved by as many dimension pairs, kept in their bounds."""

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """The vector with what is outside the free part set as the shape says."""


class Monotone:
    """LongRoPE's: factors do not fall from one pair to the next; every pair is free."""

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """No cuts."""
        return ()

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """No cuts to move."""
        return ()

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """The vector as it is."""
        return factors


@dataclass(frozen=True)
class Piecewise:
    """The authors' second algorithm: 1 below the first cut, the ratio from the second on."""

    ratio: float

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """Nothing is cut off: every pair is free."""
        return 0, pairs

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """Both cuts moved, the first no further than the second."""
        low, high = (min(max(cut + move, 0), pairs) for cut, move in zip(cuts, moves, strict=True))
        return min(low, high), max(low, high)

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """1.0 for pairs below the first cut, the ratio from the second on, between at most that."""
        low, high = cuts
        middle = tuple(min(factor, self.ratio) for factor in factors[low:high])
        return (1.0,) * low + middle + (self.ratio,) * (len(factors) - high)


@dataclass(frozen=True)
class Critical:
    """LongRoPE2's: pairs below the critical one follow NTK from it; it and those above are free.

    l_i = l_c^(i/c) for i < c: NTK's geometric row from 1 to the critical pair's factor (arXiv
    2502.20082, section 3.2). `pair` is where the search starts; the critical pair moves with it
    unless `fixed`.
    """

    pair: int
    fixed: bool

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """The critical pair to start from."""
        return (min(self.pair, pairs - 1),)

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """The critical pair moved, unless it is fixed."""
        return cuts if self.fixed else (min(max(cuts[0] + moves[0], 1), pairs - 1),)

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """NTK below the critical pair; the rest as it is."""
        (critical,) = cuts
        at_critical = factors[critical]
        return tuple(at_critical ** (i / critical) for i in range(critical)) + factors[critical:]


def theoretical_critical_pair(frequencies: Sequence[float], original_length: int) -> int:
    """The first pair that did not make a whole turn in training (arXiv 2502.20082, equation 3).

    For plain RoPE that is ceil(d/2 * log_theta(L / 2 pi)). `frequencies` are the radians per token
    of each pair, falling; their count where every pair made a whole turn.
    """
    return sum(original_length * frequency > 2 * math.pi for frequency in frequencies)
