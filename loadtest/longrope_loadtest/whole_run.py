"""A whole run: the plan, the requests' bodies, the load, and the directory of the result."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from longrope_loadtest.errors import UsageError
from longrope_loadtest.live_view import LiveView
from longrope_loadtest.profiles import plan
from longrope_loadtest.profiles.planned import Plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.profiles.rates import at_rate
from longrope_loadtest.results import results
from longrope_loadtest.results.journal import Journal
from longrope_loadtest.results.results import Result
from longrope_loadtest.run import bodies, cache
from longrope_loadtest.run.driving import Run, Target, Watcher
from longrope_loadtest.run.preflight import ServedModel, check_lengths
from longrope_loadtest.run.processes import Processes
from longrope_loadtest.run.scrape import Scraper

SEEDS = 1_000_000  # between two seeds of a user's, for the runs of a sweep or a capacity search


@dataclass(frozen=True)
class Load:
    """What is sent where: a profile, the server and its model, and the result's directory.

    `seed` is that of the plan and of the texts. The paths in the profile are relative to
    `profile_directory`.
    """

    profile: Profile
    seed: int
    target: Target
    model: ServedModel
    directory: Path
    profile_directory: Path

    def plan(self) -> Plan:
        """The requests of the profile.

        Raises:
            UsageError: A trace or a file of prompts cannot be used, or nothing would be sent.
        """
        return plan.make(self.profile, self.seed, self.profile_directory)

    def check(self, planned: Plan) -> None:
        """Check that the model takes every request of a plan, and that some of them count.

        Raises:
            UsageError: It does not, or none does.
        """
        check_lengths(planned, self.model)
        if not planned.closed and not planned.counted(self.profile.warm_up):
            raise UsageError(
                f"All {len(planned)} requests are due within the warm_up of "
                f"{self.profile.warm_up:g} s, so none would be counted: it should be shorter."
            )

    def at(self, rate: float, number: int, name: str) -> "Load":
        """Run `number` of several, at another rate in requests/s, in the subdirectory `name`.

        It has a seed of its own, so that no prompt is in the server's prefix cache from an earlier
        run, nor from one with the next seed. The user's own prompts are the same in every run.
        """
        return replace(
            self,
            profile=at_rate(self.profile, rate),
            seed=(self.seed + 1) * SEEDS + number,
            directory=self.directory / name,
        )


def run_load(
    load: Load,
    planned: Plan,
    console: Console,
    watcher: Callable[[Run], Watcher] | None = None,
    processes: int = 1,
) -> Result:
    """Send a load's plan to the server and write the result, except the report.

    `watcher` makes a watcher that may stop the run.

    Raises:
        UsageError: An error was found before any request was sent, or the result cannot be written.
    """
    load.check(planned)
    target = load.target
    if target.reset_cache:
        cache.reset(target.url, target.key)
    results.new_directory(load.directory)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("making the requests", total=len(planned))
        with bodies.made(
            planned,
            load.profile,
            target.model,
            load.seed,
            lambda done: progress.update(task, completed=done),
        ) as made:
            progress.stop()
            run = Run(planned, load.profile, made, target)
            if watcher is not None:
                run.watchers.append(watcher(run))
            return _driven(run, load, console, processes)


def _driven(run: Run, load: Load, console: Console, processes: int) -> Result:
    journal = Journal(load.directory, run, load.seed)
    # Before the view and the scraper, which have threads.
    drive = run.drive if processes == 1 else Processes(run, processes).follow
    view = LiveView(run, console)
    run.watchers += [journal, view]
    scraper = Scraper(run.target.url, run.target.key)
    with _signals_restored():  # uvloop leaves a handler that does nothing
        signal.signal(signal.SIGTERM, _as_control_c)  # from `timeout`, or of a container
        with view.live, scraper.watching():
            drive()
            # An impatient second Ctrl-C would lose the result.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        journal.close()
        return results.write(load.directory, run, load.seed, scraper.scrapes())


@contextmanager
def _signals_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_control_c(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)
