"""The shapes that a vector of relative factors may have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Vector = tuple[float, ...]


class Shape(Protocol):
    """Which vectors are in the space: the `cuts` bound the part whose factors are free."""

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """The cuts of a seed."""

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """The cuts, each moved by its number of dimension pairs in `moves` but kept in bounds."""

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """The vector with the factors outside the free part set as the shape requires."""


class Monotone:
    """LongRoPE's shape: factors never fall from one pair to the next, and every pair is free."""

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """No cuts."""
        return ()

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """No cuts to move."""
        return ()

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """The vector, unchanged."""
        return factors


@dataclass(frozen=True)
class Covering(Monotone):
    """Monotone, and pairs from `pair` on have at least `ratio`: they turn no further than trained.

    `pair` is the first that completed no turn in training. With a smaller factor it would come to
    angles that the model has never seen (arXiv 2502.20082, section 3.1): perplexity hardly shows
    it, but facts at the far end of a text are not found.
    """

    pair: int
    ratio: float

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """The vector, with at least `ratio` from `pair` on."""
        return factors[: self.pair] + tuple(
            max(factor, self.ratio) for factor in factors[self.pair :]
        )


@dataclass(frozen=True)
class Piecewise:
    """The authors' second algorithm: 1 below the first cut, `ratio` from the second cut on."""

    ratio: float

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """Cuts at both ends, so that every pair is free."""
        return 0, pairs

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """Both cuts moved and put in order."""
        low, high = (min(max(cut + move, 0), pairs) for cut, move in zip(cuts, moves, strict=True))
        return min(low, high), max(low, high)

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """1.0 below the first cut, `ratio` from the second cut on, at most `ratio` in between."""
        low, high = cuts
        middle = tuple(min(factor, self.ratio) for factor in factors[low:high])
        return (1.0,) * low + middle + (self.ratio,) * (len(factors) - high)


@dataclass(frozen=True)
class Critical:
    """LongRoPE2's shape: pairs below the critical pair c follow NTK; c and those above are free.

    l_i = l_c^(i/c) for i < c: NTK's geometric series from 1 to the critical pair's factor (arXiv
    2502.20082, section 3.2). The search starts with `pair` as the critical pair and moves it,
    unless it is `fixed`.
    """

    pair: int
    fixed: bool

    def first_cuts(self, pairs: int) -> tuple[int, ...]:
        """The critical pair that the search starts with."""
        return (min(self.pair, pairs - 1),)

    def moved(self, cuts: tuple[int, ...], moves: list[int], pairs: int) -> tuple[int, ...]:
        """The critical pair, moved unless it is fixed."""
        return cuts if self.fixed else (min(max(cuts[0] + moves[0], 1), pairs - 1),)

    def shaped(self, factors: Vector, cuts: tuple[int, ...]) -> Vector:
        """NTK's factors below the critical pair, the other factors unchanged."""
        (critical,) = cuts
        at_critical = factors[critical]
        return tuple(at_critical ** (i / critical) for i in range(critical)) + factors[critical:]


def theoretical_critical_pair(frequencies: Sequence[float], original_length: int) -> int:
    """The first pair that did not complete a turn in training (arXiv 2502.20082, equation 3).

    For plain RoPE, this is ceil(d/2 * log_theta(L / 2 pi)). `frequencies` are the radians per token
    of each pair, in falling order. If every pair completed a turn, the result is their number.
    """
    return sum(original_length * frequency > 2 * math.pi for frequency in frequencies)
