"""A whole run: the plan, the requests' bodies, the load, and the directory of the result."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from longrope_loadtest.live_view import LiveView
from longrope_loadtest.profiles.planned import Plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results import results
from longrope_loadtest.results.results import Journal, Result
from longrope_loadtest.run import bodies, cache
from longrope_loadtest.run.driving import Run, Target, Watcher
from longrope_loadtest.run.preflight import ServedModel, check_lengths
from longrope_loadtest.run.processes import Processes
from longrope_loadtest.run.scrape import Scraper


def run_profile(
    profile: Profile,
    planned: Plan,
    seed: int,
    target: Target,
    model: ServedModel,
    directory: Path,
    console: Console,
    watcher: Callable[[Run], Watcher] | None = None,
    processes: int = 1,
) -> Result:
    """Run a profile's plan against a server and write the result, except the report.

    `seed` is that of the plan and of the texts; `watcher` makes a watcher that may stop the run.

    Raises:
        UsageError: An error was found before any request was sent.
    """
    check_lengths(planned, model)
    if target.reset_cache:
        cache.reset(target.url, target.key)
    results.new_directory(directory)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("making the requests", total=len(planned))
        with bodies.made(
            planned,
            profile,
            target.model,
            seed,
            lambda done: progress.update(task, completed=done),
        ) as made:
            progress.stop()
            run = Run(planned, profile, made, target)
            if watcher is not None:
                run.watchers.append(watcher(run))
            return _driven(run, seed, directory, console, processes)


def _driven(run: Run, seed: int, directory: Path, console: Console, processes: int) -> Result:
    # Before the view and the scraper, which have threads.
    drive = run.drive if processes == 1 else Processes(run, processes).follow
    journal = Journal(directory)
    view = LiveView(run, console)
    run.watchers += [journal, view]
    scraper = Scraper(run.target.url, run.target.key)
    with view.live, scraper.watching():
        drive()
    journal.close()
    return results.write(directory, run, seed, scraper.scrapes())
