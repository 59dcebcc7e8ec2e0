"""The progress bar of a search: the evaluations so far, of the estimated total."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from longrope_factors.search.evolving.evolution import Iteration
from longrope_factors.search.question import Plan
from longrope_factors.search.watcher import Watcher

# In seconds. A long window takes minutes, so none would end within rich's default of 30 seconds.
_ESTIMATED_OVER = 3600


@contextmanager
def shown(plan: Plan, note: str | None = None) -> Iterator[Watcher]:
    """A watcher that shows a progress bar on stderr from the first measurement on.

    The `note` is printed then.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, speed_estimate_period=_ESTIMATED_OVER)
    try:
        yield _Bar(progress, plan, note)
    finally:
        progress.stop()


class _Bar(Watcher):
    def __init__(self, progress: Progress, plan: Plan, note: str | None) -> None:
        self._progress, self._plan, self._note = progress, plan, note
        self._documents, evolution = len(plan.documents), plan.evolution
        self._children = evolution.mutations + evolution.crossovers
        candidates = 1 + evolution.population + evolution.iterations * self._children
        self._task = progress.add_task("first population", total=self._documents * candidates)

    def measured(self) -> None:
        self._progress.start()
        if self._note is not None:
            self._progress.console.print(self._note)
            self._note = None
        self._progress.advance(self._task)

    def iteration(self, iteration: Iteration) -> None:
        best = math.exp(iteration.best.mean(self._documents))
        iterations = self._plan.evolution.iterations - iteration.number
        # Assumes that racing will go on to save the same share of evaluations.
        spared = iteration.measured / max(iteration.full, 1)
        done = iteration.measured + self._documents
        self._progress.update(
            self._task,
            description=f"iteration {iteration.number}: best {best:.3f}",
            completed=done,
            total=done + round(iterations * self._children * self._documents * spared),
        )
