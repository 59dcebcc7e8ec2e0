"""`longrope loadtest sweep`: one run at each rate."""

import json
import re
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from longrope_loadtest.errors import UsageError
from longrope_loadtest.live_view import ROWS
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.profiles.rates import rate_of, shown
from longrope_loadtest.results.figures import together
from longrope_loadtest.results.results import SWEEP, new_directory
from longrope_loadtest.sweep.point import Point
from longrope_loadtest.text_files import writing
from longrope_loadtest.whole_run import Load, run_load

AROUND = (0.25, 0.5, 1, 2, 4)  # the rates by default, as multiples of the profile's


def rates_of(text: str | None, profile: Profile) -> list[float]:
    """The rates in `text`, separated by commas, or some around the profile's own; ascending.

    Raises:
        UsageError: They are not numbers above 0, or the profile has no single rate.
    """
    own = rate_of(profile)
    if text is None:
        return [own * factor for factor in AROUND]
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]*\.?[0-9]+", part) and float(part) > 0 for part in parts):
        raise UsageError(f"--rates {text}: must be numbers above 0 such as 0.5,1,2.")
    return sorted({float(part) for part in parts})


def sweep(load: Load, rates: list[float], console: Console) -> None:
    """Send the load at each rate in requests/s, and write sweep.json and sweep.html.

    Raises:
        UsageError: A run cannot be made; those before it are kept.
        KeyboardInterrupt: Ctrl-C; the results so far are kept.
    """
    loads = [
        load.at(rate, number, f"{number:02}-rate-{shown(rate)}")
        for number, rate in enumerate(rates, 1)
    ]
    for at in loads:  # all of them, before the first is sent
        at.check(at.plan())
    new_directory(load.directory)
    points: list[Point] = []
    try:
        for rate, at in zip(rates, loads, strict=True):
            console.print(f"{shown(rate)} requests/s")
            result = run_load(at, at.plan(), console)
            if result.about["interrupted"]:
                raise KeyboardInterrupt
            points.append(Point(rate, at.directory.name, result.about["figures"]))
            _write(points, load.directory / SWEEP)  # now, so that a crash loses none
            for verdict in result.about["client"]["verdicts"]:
                console.print(verdict, style="bold red")
    finally:
        if points:
            _show(points, load, console)


def _write(points: list[Point], path: Path) -> None:
    text = json.dumps([asdict(point) for point in points], indent=1) + "\n"
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _show(points: list[Point], load: Load, console: Console) -> None:
    # Importing matplotlib takes a second, for which `longrope loadtest --help` should not wait.
    from longrope_loadtest.sweep import page

    _print(points, console)
    path = page.write(points, load.profile, load.target, load.directory)
    console.print(f"{path}", markup=False, highlight=False, soft_wrap=True)


def _print(points: list[Point], console: Console) -> None:
    table = Table("requests/s", *(shown(point.rate) for point in points))
    for label, cell in ROWS:
        table.add_row(label, *(cell(together(point.figures)) for point in points))
    console.print(table)
