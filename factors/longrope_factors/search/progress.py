"""A search with progress on the terminal."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.search.evolving.evolution import Iteration
from longrope_factors.search.question import Plan
from longrope_factors.search.run import opened, search
from longrope_factors.search.task import Laboratory
from longrope_factors.search.workers import workers

# An evaluation of a long window takes minutes: rich's half a minute would see none end.
_ESTIMATED_OVER = 3600


@dataclass(frozen=True)
class Crew:
    """Who measures: workers, threads of each (None: an equal share), on Ray or here, on what."""

    workers: int
    threads: int | None
    ray: str | None = None
    device: str | None = None


def run(plan: Plan, log: Path, crew: Crew) -> tuple[FactorSet, list[Iteration]]:
    """As `run.search`, with progress on stderr."""
    question = plan.question
    threads = crew.threads or max((os.cpu_count() or 1) // crew.workers, 1)
    laboratory = Laboratory(
        question.model_dir, plan.documents, crew.device, question.dtype, threads
    )
    journal = opened(plan, log)  # refused, if it is another's, before a bar is drawn
    with _progress(plan) as (on_measured, on_iteration):
        return search(
            plan,
            journal,
            lambda: workers(laboratory, crew.workers, crew.ray),
            on_measured,
            on_iteration,
        )


@contextmanager
def _progress(
    planned: Plan,
) -> Iterator[tuple[Callable[[], None], Callable[[Iteration], None]]]:
    """Evaluations so far of the most that may come, and the best perplexity."""
    evolution, documents = planned.evolution, len(planned.documents)
    children = evolution.mutations + evolution.crossovers
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, speed_estimate_period=_ESTIMATED_OVER) as progress:
        most = documents * (1 + evolution.population + evolution.iterations * children)
        task = progress.add_task("first population", total=most)

        def on_measured() -> None:
            progress.advance(task)

        def on_iteration(iteration: Iteration) -> None:
            best = math.exp(iteration.best.mean(documents))
            left = (evolution.iterations - iteration.number) * children * documents
            # What racing saved so far is taken off what is still to come.
            spared = iteration.measured / max(iteration.full, 1)
            done = iteration.measured + documents
            progress.update(
                task,
                description=f"iteration {iteration.number}: best {best:.3f}",
                completed=done,
                total=done + round(left * spared),
            )

        yield on_measured, on_iteration
