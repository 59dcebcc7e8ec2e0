"""Racing drops losers, and only between documents."""

from collections.abc import Sequence

from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.evolving.race import Candidate, race


def genome(level: float) -> Genome:
    return Genome((level,), 0, 1.0)


class Levels:
    """A genome's loss is its factor plus a tenth of the document's number."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[float, int]]] = []

    def __call__(self, pairs: Sequence[tuple[Genome, int]]) -> list[float]:
        self.asked.append([(individual.factors[0], document) for individual, document in pairs])
        return [individual.factors[0] + document / 10 for individual, document in pairs]


VETERANS = [Candidate(genome(level), [level, level + 0.1, level + 0.2]) for level in (1.0, 1.5)]


def run(slack: float | None, places: int = 2) -> tuple[list[float], Levels]:
    levels = Levels()
    racers = [Candidate(genome(level)) for level in (0.5, 1.2, 3.0)]
    finished = race(racers, VETERANS, places, 3, levels, slack)
    return [candidate.genome.factors[0] for candidate in finished], levels


def test_losers_are_dropped_after_the_first_document() -> None:
    finished, levels = run(slack=1.0)
    assert finished == [0.5]
    assert levels.asked == [[(0.5, 0), (1.2, 0), (3.0, 0)], [(0.5, 1)], [(0.5, 2)]]


def test_more_places_drop_fewer() -> None:
    assert run(slack=1.0, places=3)[0] == [0.5, 1.2]


def test_without_slack_nobody_is_dropped() -> None:
    finished, levels = run(slack=None)
    assert finished == [0.5, 1.2, 3.0]
    assert [len(pairs) for pairs in levels.asked] == [3, 3, 3]


def test_documents_that_disagree_make_racing_careful() -> None:
    # The veterans' order changes with the document: one document proves little.
    veterans = [Candidate(genome(1.0), [1.0, 3.0, 2.0]), Candidate(genome(1.5), [3.0, 1.0, 2.0])]
    racers = [Candidate(genome(level)) for level in (0.5, 1.2, 3.0)]
    finished = race(racers, veterans, 2, 3, Levels(), 1.0)
    assert [candidate.genome.factors[0] for candidate in finished] == [0.5, 1.2]


def test_without_an_estimate_nobody_is_dropped() -> None:
    racers = [Candidate(genome(level)) for level in (0.5, 3.0)]
    assert len(race(racers, [], 1, 1, Levels(), 1.0)) == 2
