"""Algorithm 1 of LongRoPE (arXiv 2402.13753), with racing."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.race import Candidate, Measure, race
from longrope_factors.search.evolving.space import Space
from longrope_factors.search.evolving.variation import crossed, mutated
from longrope_factors.search.settings import Settings

_TRIES = 100
# Racing drops candidates that seem worse than the best third of the parents, because few of them
# ever have the best children.
_CONTENDERS = 3


@dataclass(frozen=True)
class Iteration:
    """The state of a search after an iteration; iteration 0 is the first population.

    `measured` counts the evaluations so far (one genome on one document), `full` how many there
    would have been without racing.
    """

    number: int
    best: Candidate
    measured: int
    full: int


def evolve(
    seeds: Sequence[Genome],
    space: Space,
    settings: Settings,
    documents: int,
    measure: Measure,
    on_iteration: Callable[[Iteration], None] = lambda _: None,
) -> Candidate:
    """The candidate with the lowest mean loss over `documents` documents.

    The first population consists of the seeds and their mutations; then each iteration measures
    children of the k best candidates so far. The same seed and losses give the same result.
    """
    rng = random.Random(settings.seed)
    met: set[Genome] = set()
    counted = _Counted(measure)
    best: list[Candidate] = []
    full = 0
    places = max(settings.parents // _CONTENDERS, 1)

    def compete(genomes: list[Genome], slack: float | None) -> None:
        nonlocal best, full
        racers = [Candidate(genome) for genome in genomes]
        full += len(racers) * documents
        finished = race(racers, best, places, documents, counted, slack)
        ranked = sorted([*best, *finished], key=lambda candidate: candidate.mean(documents))
        best = ranked[: settings.parents]

    def mutations(parents: Sequence[Genome], number: int) -> list[Genome]:
        return _children(
            number,
            lambda: mutated(rng.choice(parents), space, settings.chance, settings.warp, rng),
            space,
            met,
        )

    def crossovers(parents: Sequence[Genome], number: int) -> list[Genome]:
        return _children(
            number,
            lambda: crossed(rng.choice(parents), rng.choice(parents), space, rng),
            space,
            met,
        )

    first = list(dict.fromkeys(seeds))[: settings.population]
    met.update(first)
    compete(first, None)
    compete(mutations(first, settings.population - len(first)), settings.racing)
    on_iteration(Iteration(0, best[0], counted.count, full))
    for number in range(1, settings.iterations + 1):
        parents = [candidate.genome for candidate in best]
        children = mutations(parents, settings.mutations)
        compete(children + crossovers(parents, settings.crossovers), settings.racing)
        on_iteration(Iteration(number, best[0], counted.count, full))
    return best[0]


def _children(
    number: int, make: Callable[[], Genome | None], space: Space, met: set[Genome]
) -> list[Genome]:
    """Up to `number` genomes that satisfy the constraint and are not yet in `met`."""
    children: list[Genome] = []
    for _ in range(number * _TRIES):
        if len(children) == number:
            break
        child = make()
        if child is not None and child not in met and space.holds(child):
            met.add(child)
            children.append(child)
    return children


class _Counted:
    """A measure that counts its evaluations."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self.count = 0

    def __call__(self, pairs: Sequence[tuple[Genome, int]]) -> list[float]:
        self.count += len(pairs)
        return list(self._measure(pairs))
