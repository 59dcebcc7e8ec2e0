"""Run a planned search and write its files; a killed search can be resumed from its log."""

import datetime
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longrope_factors import __version__
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.factor_file.files import alone
from longrope_factors.factor_file.schema import FactorFile, FactorSet, Provenance
from longrope_factors.search import plot
from longrope_factors.search.evolving.evolution import Iteration, evolve
from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.journal import Journal
from longrope_factors.search.question import Plan, file_of
from longrope_factors.search.task import Laboratory
from longrope_factors.search.watcher import Watcher
from longrope_factors.search.workers import Workers, workers
from longrope_factors.settings import MachineSection


@dataclass(frozen=True)
class Result:
    """The result of a search: the factor file, the found set and the search's iterations."""

    factor_file: FactorFile
    found: FactorSet
    history: list[Iteration]


def run(
    plan: Plan,
    output: Path,
    machine: MachineSection,
    kept: FactorFile | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Search, and write the factor file (with the sets of `kept`), the log and a plot.

    The log is beside the factor file, as .jsonl. Every evaluation is added to it, and what it has
    is not measured again, so a killed search resumes where it stopped and finds the same set.
    Raises UsageError if the log belongs to another search or one is at work on it, and OSError if
    it cannot be written.
    """
    log = output.with_suffix(".jsonl")
    with alone.at_work_on(log):
        tokenizer = model_directory.tokenizer_sha256(plan.question.model_dir)
        identity = {**plan.settings, "tokenizer_sha256": tokenizer}
        journal = Journal(log, identity, f"{datetime.date.today()}")
        return _run(plan, output, machine, kept, watcher or Watcher(), journal)


def _run(
    plan: Plan,
    output: Path,
    machine: MachineSection,
    kept: FactorFile | None,
    watcher: Watcher,
    journal: Journal,
) -> Result:
    question = plan.question
    threads = machine.threads or max((os.cpu_count() or 1) // machine.workers, 1)
    laboratory = Laboratory(
        question.model_dir, plan.documents, machine.device, question.dtype, threads
    )
    found, history = _search(
        plan,
        journal,
        lambda: workers(laboratory, machine.workers, machine.ray),
        watcher,
    )
    factor_file = file_of(found, plan, kept)
    schema.save(factor_file, output)
    plot.draw(history, found, plan.identity, output.with_suffix(".png"))
    return Result(factor_file, found, history)


class LoggedMeasure:
    """Gives the losses of genomes: from the log if they are there, else measured and logged."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        workers: Callable[[], Workers],
        watcher: Watcher,
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._start = workers
        self._workers: Workers | None = None
        self._watcher = watcher

    def __call__(self, pairs: Sequence[tuple[Genome, int]]) -> Iterator[float]:
        """Losses in nats in the order of `pairs`, once all of them are known."""
        losses = [self._journal.loss(*pair) for pair in pairs]
        missing = [index for index, loss in enumerate(losses) if loss is None]
        for _ in range(len(pairs) - len(missing)):
            self._watcher.measured()
        if missing:
            if self._workers is None:
                # Started only when needed: a finished search is repeated from its log alone.
                self._workers = self._start()
            started = time.monotonic()
            jobs = [
                (as_factor_set(pairs[index][0], self._plan, None), pairs[index][1])
                for index in missing
            ]
            for done, loss in self._workers.losses(jobs):
                index = missing[done]
                now = time.monotonic()
                self._journal.add(*pairs[index], loss, now - started)
                started = now
                losses[index] = loss
                self._watcher.measured()
        return (loss for loss in losses if loss is not None)

    def close(self) -> None:
        """End the workers."""
        if self._workers is not None:
            self._workers.close()


def _search(
    plan: Plan, journal: Journal, workers: Callable[[], Workers], watcher: Watcher
) -> tuple[FactorSet, list[Iteration]]:
    measure = LoggedMeasure(plan, journal, workers, watcher)
    iterations: list[Iteration] = []

    def finished(iteration: Iteration) -> None:
        iterations.append(iteration)
        watcher.iteration(iteration)

    count = len(plan.documents)
    try:
        plain = list(measure([(plan.plain, document) for document in range(count)]))
        best = evolve(
            list(plan.seeds.values()), plan.space, plan.evolution, count, measure, finished
        )
    finally:
        measure.close()
    provenance = Provenance(
        method="longrope2" if plan.question.space.objective == "needle" else "longrope",
        source=f"search by longrope factors search on {plan.identity.name}",
        date=journal.started,
        tool_version=__version__,
        search={**plan.settings, "iterations": plan.evolution.iterations},
        seed=plan.evolution.seed,
        corpus=plan.corpus,
        evaluations=iterations[-1].measured + count,
        perplexity_before=_perplexity(sum(plain) / count),
        perplexity_after=_perplexity(best.mean(count)),
    )
    return as_factor_set(best.genome, plan, provenance), iterations


def as_factor_set(genome: Genome, plan: Plan, provenance: Provenance | None) -> FactorSet:
    """The genome as a factor set, with absolute factors, for the plan's length."""
    return FactorSet(
        max_length=plan.question.length,
        factors=plan.space.factors(genome),
        start_tokens=genome.start_tokens,
        attention_factor=genome.attention_factor,
        provenance=provenance or _UNRECORDED,
    )


def _perplexity(loss: float) -> float:
    return round(math.exp(loss), 4)


# For sets that only go to a worker, where their provenance does not matter.
_UNRECORDED = Provenance(
    method="longrope", source="a candidate", date="2024-02-21", tool_version=__version__
)
