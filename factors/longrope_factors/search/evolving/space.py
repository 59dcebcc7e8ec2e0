"""The search space: its bounds, and how genomes and factor sets correspond."""

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

    `base` has one number per pair, by which relative factors are multiplied to make them absolute.
    In a second search, it is the factors that the model was fine-tuned with (arXiv 2402.13753,
    section 3.3); otherwise it is the model's own rotation, which is all ones for plain RoPE.
    `attention` is the range of the attention factor; its ends are equal if the factor is fixed.
    """

    base: Vector
    upper: float
    step: float
    shape: Shape
    start_tokens: tuple[int, ...]
    attention: tuple[float, float]

    @property
    def pairs(self) -> int:
        """The number of dimension pairs."""
        return len(self.base)

    def genome(self, rescaling: Rescaling, start_tokens: int = 0) -> Genome:
        """A method's relative factors as a genome of this space, with the shape's first cuts.

        The factors are not rounded to the grid.
        """
        return self.shaped(
            rescaling.factors,
            start_tokens,
            rescaling.attention_factor,
            self.shape.first_cuts(self.pairs),
        )

    def shaped(
        self, factors: Vector, start_tokens: int, attention_factor: float, cuts: tuple[int, ...]
    ) -> Genome:
        """A genome with factors in the shape given by `cuts` and a bounded attention factor."""
        low, high = self.attention
        return Genome(
            factors=self.shape.shaped(factors, cuts),
            start_tokens=start_tokens,
            attention_factor=min(max(attention_factor, low), high),
            cuts=cuts,
        )

    def rounded(self, factor: float) -> float:
        """The factor, rounded to the grid and limited to [1, upper]."""
        steps = round((min(max(factor, 1.0), self.upper) - 1.0) / self.step)
        return round(1.0 + steps * self.step, 6)

    def rounded_attention(self, attention_factor: float) -> float:
        """The attention factor, rounded to its grid and limited to its range."""
        low, high = self.attention
        steps = round((min(max(attention_factor, low), high) - low) / _ATTENTION_STEP)
        return min(low + steps * _ATTENTION_STEP, high)

    def holds(self, genome: Genome) -> bool:
        """Whether the factors are monotone, the constraint on every child."""
        pairs = zip(genome.factors, genome.factors[1:], strict=False)
        return all(one <= next_one for one, next_one in pairs)

    def factors(self, genome: Genome) -> Vector:
        """Absolute factors: the relative factors times the base."""
        return tuple(
            relative * base for relative, base in zip(genome.factors, self.base, strict=True)
        )


def relative(factor_set: FactorSet, base: Vector) -> Rescaling:
    """A factor set relative to `base`, with every factor at least 1."""
    factors = tuple(
        max(absolute / own, 1.0) for absolute, own in zip(factor_set.factors, base, strict=True)
    )
    return Rescaling(factors, factor_set.attention_factor)
