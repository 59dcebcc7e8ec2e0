"""`longrope loadtest capacity`: the capacity search on a real server."""

import json

from rich.console import Console
from rich.table import Table

from longrope_loadtest.capacity import capacity
from longrope_loadtest.capacity.capacity import Capacity, StopWhenLost
from longrope_loadtest.profiles.planned import Plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.profiles.rates import rate_of, shown
from longrope_loadtest.results.results import new_directory
from longrope_loadtest.results.slo import Goodput, counted, met
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record
from longrope_loadtest.whole_run import Load, run_load

FILE = "capacity.json"


def find_capacity(load: Load, repeats: int, console: Console) -> Capacity:
    """Search, with a result in the load's directory for every run, and write capacity.json.

    Raises:
        UsageError: The profile cannot be run at several rates.
        KeyboardInterrupt: Ctrl-C; the results so far are kept.
    """
    profile = load.profile
    capacity.check(profile)
    new_directory(load.directory)
    number_of_run = 0

    def measure(rate: float, number: int) -> Goodput:
        nonlocal number_of_run
        number_of_run += 1
        name = f"{number_of_run:02}-rate-{shown(rate)}-repeat-{number + 1}"
        at = load.at(rate, number_of_run, name)
        console.print(f"{shown(rate)} requests/s, repeat {number + 1} of {repeats}")
        planned = at.plan()

        def watcher(run: Run) -> StopWhenLost:
            return StopWhenLost(at.profile, run.plan, repeats, run.stop)

        result = run_load(at, planned, console, watcher)
        if result.about["interrupted"]:
            raise KeyboardInterrupt
        return _goodput(at.profile, planned, result.records)

    outcome = capacity.find(
        rate_of(profile), capacity.lowest_rate(profile), repeats, profile.attainment, measure
    )
    text = json.dumps(outcome.as_json(), indent=1) + "\n"
    (load.directory / FILE).write_text(text, encoding="utf-8")
    _print(outcome, profile, console)
    return outcome


def _goodput(profile: Profile, planned: Plan, records: list[Record]) -> Goodput:
    """The goodput of all planned requests; those that a stopped run did not send were not good."""
    due = planned.counted(profile.warm_up)
    # A client that leaves does not send the later turns of its conversation either.
    left = sum(
        1 + (record.turns or 0) - (record.turn or 0)
        for record in records
        if not record.warm_up and record.outcome == "cancelled"
    )
    good = sum(met(record, profile.classes[record.class_name].slo) for record in counted(records))
    return Goodput(due - left, good, 0, 0, 1)


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
