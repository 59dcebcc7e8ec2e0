"""A loss with a known optimum, standing where a model would: a smooth ramp of factors.

The loss of document d is a constant of its own plus a weighted squared distance of the logarithms
from the ramp, as losses near their optimum are; the weights differ from document to document.
"""

import math
from collections.abc import Sequence

import numpy as np
from longrope_factors.factor_file import methods
from longrope_factors.factor_file.schema import Method
from longrope_factors.search.evolving.evolution import Iteration, evolve
from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.shape import Monotone, Shape
from longrope_factors.search.evolving.space import START_TOKENS, Space
from longrope_factors.search.settings import Settings

from tests.factors.examples import IDENTITY

RATIO, DOCUMENTS = 4.0, 10
START, ATTENTION = 8, 1.06
RAMP = np.array([1 + 3.4 / (1 + math.exp(-(pair - 17) / 2.5)) for pair in range(32)])
METHODS: tuple[Method, ...] = ("pi", "ntk", "yarn")


def space(shape: Shape | None = None) -> Space:
    return Space((1.0,) * 32, 1.25 * RATIO, 0.01, shape or Monotone(), START_TOKENS, (1.0, 1.28))


def seeds(of: Space) -> list[Genome]:
    return [of.genome(methods.rescale(method, IDENTITY, RATIO)) for method in METHODS]


class Toy:
    """Losses of genomes on the toy's documents, above the optimum's."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._constants = rng.normal(0, 0.3, DOCUMENTS)
        self._weights = np.exp(rng.normal(0, 0.5, (DOCUMENTS, 32)))

    def loss(self, genome: Genome, document: int) -> float:
        away = np.log(np.array(genome.factors) / RAMP)
        start = abs(math.log2((genome.start_tokens + 1) / (START + 1)))
        return (
            float(self._constants[document])
            + 0.05 * float((self._weights[document] * away**2).sum())
            + 0.002 * start
            + 4 * (genome.attention_factor - ATTENTION) ** 2
        )

    def excess(self, genome: Genome) -> float:
        """Mean loss above that of the optimum, in nats."""
        losses = [self.loss(genome, document) for document in range(DOCUMENTS)]
        return float(np.mean(losses) - self._constants.mean())

    def measure(self, pairs: Sequence[tuple[Genome, int]]) -> list[float]:
        return [self.loss(*pair) for pair in pairs]


def search(settings: Settings, shape: Shape | None = None) -> tuple[Genome, list[Iteration]]:
    """The genome that a search on the toy finds, and its iterations."""
    history: list[Iteration] = []
    of = space(shape)
    best = evolve(seeds(of), of, settings, DOCUMENTS, Toy().measure, history.append)
    return best.genome, history
