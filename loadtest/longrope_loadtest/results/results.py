"""The directory of a result, written during the run so that a crash loses nothing that was done.

`requests.jsonl` and `requests.csv` have one line for each request, `server_metrics.jsonl` one for
each scrape of the server. `result.json` has everything about the run and its figures, and
`report.html` the same for people.
"""

import csv
import importlib.metadata
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.figures import summary
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import FIELDS, Record
from longrope_loadtest.run.scrape import Scrape

FORMAT = "longrope-loadtest/1"
REQUESTS = "requests.jsonl"
METRICS = "server_metrics.jsonl"
RESULT = "result.json"
SWEEP, CAPACITY = "sweep.json", "capacity.json"  # of several runs


# Why a run ended before its plan did, by the field of result.json that says so.
EARLY_ENDS = {
    "interrupted": "The run was ended by Ctrl-C; the figures are of what was over by then.",
    "stopped": "The run was ended when its rate was lost: too many requests had missed their "
    "objectives. The figures are of what was over by then.",
}


def early_end(about: dict[str, Any]) -> str | None:
    """Why a run ended before its plan did, as a sentence or two; None for a whole run."""
    # Results of earlier versions have fewer fields.
    return next((text for field, text in EARLY_ENDS.items() if about.get(field)), None)


@dataclass(frozen=True)
class Result:
    """A result, as written or read back."""

    directory: Path
    about: dict[str, Any]  # result.json
    profile: Profile
    records: list[Record]
    scrapes: list[Scrape]


class Journal:
    """Writes each request to a file when it ends."""

    def __init__(self, directory: Path) -> None:
        # Line by line, so that a killed process leaves every request that had ended.
        self._file = (directory / REQUESTS).open("w", encoding="utf-8", buffering=1)

    def dispatched(self, record: Record) -> None:
        """Do nothing."""

    def ended(self, record: Record) -> None:
        """Write one line."""
        self._file.write(json.dumps(record.as_json(), separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def new_directory(directory: Path) -> Path:
    """Make the directory of a result.

    Raises:
        UsageError: It already holds a result, or it cannot be made or written.
    """
    if any((directory / name).exists() for name in (RESULT, REQUESTS, SWEEP, CAPACITY)):
        raise UsageError(f"{directory} holds a result already: name another with -o.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error}.") from error
    if not os.access(directory, os.W_OK):
        raise UsageError(f"{directory} cannot be written.")
    return directory


def write(directory: Path, run: Run, seed: int, scrapes: list[Scrape]) -> Result:
    """Write all files of a result except the report."""
    with (directory / "requests.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [name for name in FIELDS if name != "token_gaps"])
        table.writeheader()
        for record in run.records:
            table.writerow({k: v for k, v in record.as_json().items() if k != "token_gaps"})
    with (directory / METRICS).open("w", encoding="utf-8") as file:
        for scrape in scrapes:
            file.write(json.dumps({"at": scrape.at, "values": scrape.values}) + "\n")
    about = {
        "format": FORMAT,
        "longrope": importlib.metadata.version("longrope"),
        "began_at": datetime.fromtimestamp(run.began_at, UTC).isoformat(timespec="seconds"),
        "began_at_unix": run.began_at,
        "url": run.target.url,
        "model": run.target.model,
        "seed": seed,
        "requests_sha256": run.bodies.sha256,
        "planned_requests": len(run.plan),
        "interrupted": run.interrupted,
        "stopped": run.stopped,
        "profile": run.profile.model_dump(mode="json", exclude_unset=True),
        "client": run.load.as_json(),
        "figures": summary(run.records, run.profile),
    }
    whole = directory / f"{RESULT}.new"
    whole.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    whole.replace(directory / RESULT)
    return Result(directory, about, run.profile, run.records, scrapes)


def read(directory: Path) -> Result:
    """Read a result back.

    Raises:
        UsageError: There is no complete result, it has another format, or it was changed.
    """
    try:
        about = json.loads((directory / RESULT).read_text(encoding="utf-8-sig"))
        lines = (directory / REQUESTS).read_text(encoding="utf-8-sig").splitlines()
        looks = (directory / METRICS).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:  # the latter: not JSON, or not UTF-8
        raise UsageError(f"{directory} holds no complete result: {error}.") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise UsageError(f"{directory}: has the format {found!r}; this version reads {FORMAT!r}.")
    try:
        records = sorted((Record(**json.loads(line)) for line in lines), key=lambda r: r.number)
        scrapes = [Scrape(**json.loads(line)) for line in looks]
        profile = Profile.model_validate(about["profile"])
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{directory} holds a result that was changed, or that another version wrote: "
            f"{' '.join(str(error).split())}."
        ) from error
    return Result(directory, about, profile, records, scrapes)
