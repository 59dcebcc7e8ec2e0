"""`longrope loadtest capacity`: the capacity search on a real server."""

import json

from rich.console import Console
from rich.table import Table

from longrope_loadtest.capacity import capacity
from longrope_loadtest.capacity.capacity import Capacity, StopWhenLost
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.planned import Plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.profiles.rates import rate_of, shown
from longrope_loadtest.results.results import CAPACITY, new_directory
from longrope_loadtest.results.slo import Goodput, counted, met
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record
from longrope_loadtest.whole_run import Load, run_load


def find_capacity(load: Load, repeats: int, console: Console) -> Capacity:
    """Search, with a result in the load's directory for every run, and write capacity.json.

    capacity.json is written after every rate, so that a search that ends early keeps its rates.

    Raises:
        UsageError: The profile cannot be run at several rates, or not at a rate of the search.
        KeyboardInterrupt: Ctrl-C; the results so far are kept.
    """
    profile = load.profile
    capacity.check(profile)
    new_directory(load.directory)
    outcome: Capacity | None = None  # so far
    runs: list[tuple[Load, Plan]] = []  # the repeats of a rate

    def measure(rate: float, number: int) -> Goodput:
        if number == 0:
            before = (len(outcome.probes) if outcome else 0) * repeats
            runs[:] = _planned(load, rate, before, repeats)
        at, planned = runs[number]
        console.print(f"{shown(rate)} requests/s, repeat {number + 1} of {repeats}")
        requests = sum(plan.counted(profile.warm_up) for _, plan in runs)

        def watcher(run: Run) -> StopWhenLost:
            return StopWhenLost(at.profile, requests, run.stop)

        result = run_load(at, planned, console, watcher)
        if result.about["interrupted"]:
            raise KeyboardInterrupt
        for verdict in result.about["client"]["verdicts"]:
            console.print(verdict, style="bold red")
        return _goodput(at.profile, planned, result.records)

    def told(so_far: Capacity) -> None:
        nonlocal outcome
        outcome = so_far
        text = json.dumps(outcome.as_json(), indent=1) + "\n"
        (load.directory / CAPACITY).write_text(text, encoding="utf-8")

    lowest = capacity.lowest_rate(profile)
    try:
        found = capacity.find(rate_of(profile), lowest, repeats, profile.attainment, measure, told)
    except UsageError as error:
        if outcome is None:
            raise
        _print(outcome, profile, console)
        raise UsageError(
            f"The search ended early, with these rates in {CAPACITY}: {error}"
        ) from error
    _print(found, profile, console)
    return found


def _planned(load: Load, rate: float, before: int, repeats: int) -> list[tuple[Load, Plan]]:
    """The repeats of a rate, all checked; there have been `before` runs."""
    runs = []
    for number in range(1, repeats + 1):
        name = f"{before + number:02}-rate-{shown(rate)}-repeat-{number}"
        at = load.at(rate, before + number, name)
        runs.append((at, at.plan()))
        at.check(runs[-1][1])
    return runs


def _goodput(profile: Profile, planned: Plan, records: list[Record]) -> Goodput:
    """The goodput of all planned requests; those that a stopped run did not send were not good."""
    due = planned.counted(profile.warm_up)
    # A client that leaves does not send the later turns of its conversation either.
    left = sum(
        1 + (record.turns or 0) - (record.turn or 0)
        for record in records
        if not record.warm_up and record.outcome == "cancelled"
    )
    # Of a closed loop, only the run tells what was due within the warm-up.
    closed = {first.number for users in planned.closed for first in users.requests}
    early = sum(
        record.turns or 1 for record in records if record.warm_up and record.number in closed
    )
    good = sum(met(record, profile.classes[record.class_name].slo) for record in counted(records))
    return Goodput(due - left - early, good, 0, 0, 1)


def _print(outcome: Capacity, profile: Profile, console: Console) -> None:
    table = Table("requests/s", "requests", "within objectives", "")
    for probe in sorted(outcome.probes, key=lambda probe: probe.rate):
        share = probe.good_requests / max(1, probe.requests)
        verdict = "met" if probe.met else "missed"
        table.add_row(shown(probe.rate), str(probe.requests), f"{100 * share:.1f} %", verdict)
    console.print(table)
    goal = f"{100 * profile.attainment:g} % of the requests within their objectives"
    if outcome.rate is None:
        assert outcome.missed_at is not None
        console.print(f"No rate down to {shown(outcome.missed_at)} requests/s has {goal}.")
    elif outcome.missed_at is None:
        console.print(f"Every rate up to {shown(outcome.rate)} requests/s has {goal}.")
    else:
        console.print(
            f"Capacity: {shown(outcome.rate)} requests/s with {goal}; "
            f"{shown(outcome.missed_at)} has not."
        )
