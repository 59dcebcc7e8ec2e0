"""Racing: candidates that fall behind on the first documents are not measured on the others."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from longrope_factors.search.evolving.genome import Genome

Measure = Callable[[Sequence[tuple[Genome, int]]], Iterable[float]]
"""Losses, in nats, of genomes on documents (by index), in the given order."""


@dataclass
class Candidate:
    """A genome and its loss on each document so far, in nats per token."""

    genome: Genome
    losses: list[float] = field(default_factory=list)

    def mean(self, documents: int) -> float:
        """Mean loss over the first `documents`: the log of their geometric mean perplexity."""
        return sum(self.losses[:documents]) / documents


def race(
    racers: Sequence[Candidate],
    veterans: Sequence[Candidate],
    places: int,
    documents: int,
    measure: Measure,
    slack: float | None,
) -> list[Candidate]:
    """The candidates in `racers` that were measured on every document.

    After each document but the last, a candidate is compared with the `places`-th best among the
    `veterans`, which were measured on all documents, and the racers still in the race. It is
    dropped if it is behind by more than `slack` standard errors of what its mean over all documents
    may still become. If `slack` is None, none is dropped. All decisions are made between documents,
    so they do not depend on the order of measurements.
    """
    running = list(racers)
    for document in range(documents):
        losses = measure([(candidate.genome, document) for candidate in running])
        for candidate, loss in zip(running, losses, strict=True):
            candidate.losses.append(loss)
        seen = document + 1
        everyone = sorted(candidate.mean(seen) for candidate in (*veterans, *running))
        if slack is None or seen == documents or len(everyone) <= places:
            continue
        spread = _spread([*veterans, *running], seen, places)
        if spread is None:
            continue
        limit = everyone[places - 1] + slack * spread * math.sqrt(1 / seen - 1 / documents)
        running = [candidate for candidate in running if candidate.mean(seen) <= limit]
    return running


def _spread(everyone: Sequence[Candidate], seen: int, places: int) -> float | None:
    """Standard deviation, over documents, of the difference between two candidates' losses.

    Estimated from the best of those candidates that were measured on most documents; candidates far
    behind would distort it. None if fewer than two candidates were measured on two documents.
    """
    most = max(len(candidate.losses) for candidate in everyone)
    known = sorted(
        (candidate for candidate in everyone if len(candidate.losses) == most),
        key=lambda candidate: candidate.mean(seen),
    )[: max(places, 3)]
    if most < 2 or len(known) < 2:
        return None
    losses = np.array([candidate.losses for candidate in known])
    residuals = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
    freedom = (losses.shape[0] - 1) * (losses.shape[1] - 1)
    return float(np.sqrt(2 * (residuals**2).sum() / freedom))
