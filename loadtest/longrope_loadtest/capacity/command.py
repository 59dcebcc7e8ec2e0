"""`longrope loadtest capacity`: the capacity search on a real server."""

import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from longrope_loadtest.capacity import capacity
from longrope_loadtest.capacity.capacity import Capacity, Repeat, StopWhenLost
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.planned import Plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.profiles.rates import rate_of, shown
from longrope_loadtest.results.results import CAPACITY, new_directory
from longrope_loadtest.results.slo import counted, met
from longrope_loadtest.run.record import NO_CONNECTION, Record
from longrope_loadtest.text_files import writing
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

    def measure(rate: float) -> Iterator[Repeat]:
        before = sum(probe.runs for probe in outcome.probes) if outcome else 0
        runs = _planned(load, rate, before, repeats)
        lost = StopWhenLost(profile, sum(plan.counted(profile.warm_up) for _, plan in runs))
        for number, (at, planned) in enumerate(runs, 1):
            console.print(f"{shown(rate)} requests/s, repeat {number} of {repeats}")
            result = run_load(at, planned, console, lost.of)
            if result.about["interrupted"]:
                raise KeyboardInterrupt
            for verdict in result.about["client"]["verdicts"]:
                console.print(verdict, style="bold red")
            _check_reached(result.records, rate)
            yield _repeat(at.profile, planned, result.records)
            if lost.is_lost:
                if number < repeats:
                    console.print(f"Too many missed their objectives for {repeats} repeats.")
                return

    def told(so_far: Capacity) -> None:
        nonlocal outcome
        outcome = so_far
        text = json.dumps(outcome.as_json(), indent=1) + "\n"
        with writing(path := load.directory / CAPACITY):
            path.write_text(text, encoding="utf-8")

    lowest = capacity.lowest_rate(profile)
    try:
        found = capacity.find(rate_of(profile), lowest, profile.attainment, measure, told)
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


def _check_reached(records: list[Record], rate: float) -> None:
    """Check that the server was there, as one that ended at a higher rate misses every objective.

    Raises:
        UsageError: No request reached it.
    """
    refused = [record for record in records if record.error == NO_CONNECTION]
    if refused and all(record.status is None for record in records):
        raise UsageError(
            f"No request of {shown(rate)} requests/s reached the server: {refused[0].message}."
        )


def _repeat(profile: Profile, planned: Plan, records: list[Record]) -> Repeat:
    """All planned requests of a run; those that a stopped one did not send were not good."""
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
    return Repeat(due - left - early, good)


def _print(outcome: Capacity, profile: Profile, console: Console) -> None:
    table = Table("requests/s", "runs", "requests", "within objectives", "")
    for probe in sorted(outcome.probes, key=lambda probe: probe.rate):
        share = f"{100 * probe.good_requests / probe.requests:.1f} %"
        verdict = "met" if probe.met else "missed"
        runs, requests = str(probe.runs), str(probe.requests)
        table.add_row(shown(probe.rate), runs, requests, share, verdict)
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
