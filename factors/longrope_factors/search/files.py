"""A search and the files that it leaves."""

from dataclasses import dataclass
from pathlib import Path

from longrope_factors.factor_file import schema
from longrope_factors.factor_file.schema import FactorFile, FactorSet
from longrope_factors.search import plot, progress
from longrope_factors.search.evolving.evolution import Iteration
from longrope_factors.search.question import Plan, file_of


@dataclass(frozen=True)
class Places:
    """Where a search writes: its log, the factor file and the picture."""

    log: Path
    factors: Path
    picture: Path


def search(
    plan: Plan, crew: progress.Crew, places: Places, kept: FactorFile | None
) -> tuple[FactorFile, FactorSet, list[Iteration]]:
    """Search with progress on stderr, and write the factor file (with `kept`'s sets) and picture.

    Gives the factor file, the set in it that was found, and how the search converged.
    """
    found, history = progress.run(plan, places.log, crew)
    factor_file = file_of(found, plan, kept)
    schema.save(factor_file, places.factors)
    plot.draw(history, found, plan.identity, places.picture)
    return factor_file, found, history
