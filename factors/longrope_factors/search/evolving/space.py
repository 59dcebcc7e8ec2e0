"""The search space: its bounds, its seeds, and what a genome means as a factor set."""

from dataclasses import dataclass

from longrope_factors.factor_file.methods import Rescaling
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.shape import Shape, Vector

START_TOKENS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)
"""The values of n_hat (arXiv 2402.13753, Table 1)."""
_ATTENTION_STEP = 0.001


@dataclass(frozen=True)
class Space:
    """Relative factors in [1, upper] on a grid of `step`, non-decreasing, in one of the shapes.

    `base`, one number a pair, turns relative into absolute factors: the factors that the model was
    fine-tuned with, in a second search (arXiv 2402.13753, section 3.3), else its own rotation's,
    which are ones for plain RoPE.
    `attention` is the range of the attention factor; the two ends are equal where it is fixed.
    """

    base: Vector
    upper: float
    step: float
    shape: Shape
    start_tokens: tuple[int, ...]
    attention: tuple[float, float]

    @property
    def pairs(self) -> int:
        """How many dimension pairs there are."""
        return len(self.base)

    def genome(self, rescaling: Rescaling, start_tokens: int = 0) -> Genome:
        """A method's relative factors as a genome of this space, neither rounded nor cut."""
        return self.shaped(
            rescaling.factors,
            start_tokens,
            rescaling.attention_factor,
            self.shape.first_cuts(self.pairs),
        )

    def shaped(
        self, factors: Vector, start_tokens: int, attention_factor: float, cuts: tuple[int, ...]
    ) -> Genome:
        """A genome with factors in the shape that the cuts give, and the rest within bounds."""
        low, high = self.attention
        return Genome(
            factors=self.shape.shaped(factors, cuts),
            start_tokens=start_tokens,
            attention_factor=min(max(attention_factor, low), high),
            cuts=cuts,
        )

    def rounded(self, factor: float) -> float:
        """The factor on the grid and within [1, upper]."""
        steps = round((min(max(factor, 1.0), self.upper) - 1.0) / self.step)
        return round(1.0 + steps * self.step, 6)

    def rounded_attention(self, attention_factor: float) -> float:
        """The attention factor on its grid and within its range."""
        low, high = self.attention
        steps = round((min(max(attention_factor, low), high) - low) / _ATTENTION_STEP)
        return min(low + steps * _ATTENTION_STEP, high)

    def holds(self, genome: Genome) -> bool:
        """Whether the factors are monotone: the constraint that every child is checked for."""
        pairs = zip(genome.factors, genome.factors[1:], strict=False)
        return all(one <= next_one for one, next_one in pairs)

    def factors(self, genome: Genome) -> Vector:
        """Absolute factors: relative ones times the base."""
        return tuple(
            relative * base for relative, base in zip(genome.factors, self.base, strict=True)
        )


def relative(factor_set: FactorSet, base: Vector) -> Rescaling:
    """A factor set's numbers as relative ones, no factor below 1."""
    factors = tuple(
        max(absolute / own, 1.0) for absolute, own in zip(factor_set.factors, base, strict=True)
    )
    return Rescaling(factors, factor_set.attention_factor)
