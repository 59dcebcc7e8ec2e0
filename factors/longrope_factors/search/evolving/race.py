"""Racing: candidates that are behind after the first documents are not measured on the rest."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from longrope_factors.search.evolving.genome import Genome

Measure = Callable[[Sequence[tuple[Genome, int]]], Iterable[float]]
"""Losses, in nats, of genomes on documents (by index), in the order asked."""


@dataclass
class Candidate:
    """A genome and its loss on each document so far, in nats per token."""

    genome: Genome
    losses: list[float] = field(default_factory=list)

    def mean(self, documents: int) -> float:
        """Mean loss over the first documents: the logarithm of their geometric mean perplexity."""
        return sum(self.losses[:documents]) / documents


def race(
    racers: Sequence[Candidate],
    veterans: Sequence[Candidate],
    places: int,
    documents: int,
    measure: Measure,
    slack: float | None,
) -> list[Candidate]:
    """The candidates of `racers` that were measured on every document.

    After each document but the last, one is dropped that is behind the `places`-th best (of
    `veterans`, measured in full, and of those still in) by more than `slack` standard errors of
    what its mean over all documents may still become. Without slack none is dropped. All
    decisions fall between documents, so they do not depend on the order of measurements.
    """
    running = list(racers)
    for document in range(documents):
        losses = measure([(each.genome, document) for each in running])
        for each, loss in zip(running, losses, strict=True):
            each.losses.append(loss)
        seen = document + 1
        everyone = sorted(each.mean(seen) for each in (*veterans, *running))
        if slack is None or seen == documents or len(everyone) <= places:
            continue
        spread = _spread([*veterans, *running], seen, places)
        if spread is None:
            continue
        limit = everyone[places - 1] + slack * spread * math.sqrt(1 / seen - 1 / documents)
        running = [each for each in running if each.mean(seen) <= limit]
    return running


def _spread(everyone: Sequence[Candidate], seen: int, places: int) -> float | None:
    """Standard deviation of the difference of two candidates from one document to the next.

    From the best that were measured on most documents: those far behind differ in kind. None
    where too few were measured on two documents.
    """
    most = max(len(each.losses) for each in everyone)
    known = sorted(
        (each for each in everyone if len(each.losses) == most), key=lambda each: each.mean(seen)
    )[: max(places, 3)]
    if most < 2 or len(known) < 2:
        return None
    losses = np.array([each.losses for each in known])
    residuals = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
    freedom = (losses.shape[0] - 1) * (losses.shape[1] - 1)
    return float(np.sqrt(2 * (residuals**2).sum() / freedom))
