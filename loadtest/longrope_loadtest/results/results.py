"""The directory of a result, written during the run so that a crash loses nothing that was done.

`requests.jsonl` and `requests.csv` have one line for each request, `server_metrics.jsonl` one for
each scrape of the server. `result.json` has everything about the run and its figures, and
`report.html` the same for people. Until the run is over, only `requests.jsonl` is there, and
`begun.json` with what is known of the run at its start.
"""

import csv
import importlib.metadata
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.figures import summary
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.lag import client_load
from longrope_loadtest.run.record import FIELDS, Record
from longrope_loadtest.run.scrape import Scrape
from longrope_loadtest.text_files import writing

FORMAT = "longrope-loadtest/1"
REQUESTS = "requests.jsonl"
BEGUN = "begun.json"
METRICS = "server_metrics.jsonl"
RESULT = "result.json"
SWEEP, CAPACITY = "sweep.json", "capacity.json"  # of several runs


# Why a run ended before its plan did, by the field of result.json that says so.
EARLY_ENDS = {
    "interrupted": "The run was ended by Ctrl-C; the figures are of what was over by then.",
    "stopped": "The run was ended when its rate was lost: too many requests had missed their "
    "objectives. The figures are of what was over by then.",
    "unfinished": "There is no result.json: the run was killed, or it is not over yet. The figures "
    "are of the requests that were over by then.",
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


def holds_a_result(directory: Path) -> UsageError:
    """The error for a directory that cannot take another run."""
    return UsageError(f"{directory} holds a result already: name another with -o.")


def new_directory(directory: Path) -> Path:
    """Make the directory of a result.

    Raises:
        UsageError: It already holds a result, or it cannot be made or written.
    """
    if any((directory / name).exists() for name in (RESULT, REQUESTS, SWEEP, CAPACITY)):
        raise holds_a_result(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error}.") from error
    if not os.access(directory, os.W_OK):
        raise UsageError(f"{directory} cannot be written.")
    return directory


def begun(run: Run, seed: int) -> dict[str, Any]:
    """What is known of a run at its start."""
    began_at = run.began_at or time.time()
    return {
        "format": FORMAT,
        "longrope": importlib.metadata.version("longrope"),
        "began_at": datetime.fromtimestamp(began_at, UTC).isoformat(timespec="seconds"),
        "began_at_unix": began_at,
        "url": run.target.url,
        "model": run.target.model,
        "seed": seed,
        "requests_sha256": run.bodies.sha256,
        "planned_requests": len(run.plan),
        "profile": run.profile.model_dump(mode="json", exclude_unset=True),
    }


def write(directory: Path, run: Run, seed: int, scrapes: list[Scrape]) -> Result:
    """Write all files of a result except the report and the requests.

    Raises:
        UsageError: They cannot be written.
    """
    about = begun(run, seed) | {
        "interrupted": run.interrupted,
        "stopped": run.stopped,
        "client": run.load.as_json(),
        "figures": summary(run.records, run.profile),
    }
    with writing(directory):
        _write(directory, about, run.records, scrapes)
    return Result(directory, about, run.profile, run.records, scrapes)


def _write(
    directory: Path, about: dict[str, Any], records: list[Record], scrapes: list[Scrape]
) -> None:
    with (directory / "requests.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [name for name in FIELDS if name != "token_gaps"])
        table.writeheader()
        for record in records:
            table.writerow({k: v for k, v in record.as_json().items() if k != "token_gaps"})
    with (directory / METRICS).open("w", encoding="utf-8") as file:
        for scrape in scrapes:
            file.write(json.dumps({"at": scrape.at, "values": scrape.values}) + "\n")
    whole = directory / f"{RESULT}.new"
    whole.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    whole.replace(directory / RESULT)
    (directory / BEGUN).unlink()


def read(directory: Path) -> Result:
    """Read a result back; if its run was killed, make it of the requests that were over.

    Raises:
        UsageError: There is no result, it has another format, or it was changed.
    """
    unfinished = (directory / BEGUN).exists() and not (directory / RESULT).exists()
    try:
        about = json.loads(_text(directory / (BEGUN if unfinished else RESULT)))
        requests = _text(directory / REQUESTS)
        if unfinished:
            requests = requests[: requests.rfind("\n") + 1]  # the last line may be torn
        looks = "" if unfinished else _text(directory / METRICS)
    except (OSError, ValueError) as error:  # the latter: not JSON, or not UTF-8
        raise UsageError(f"{directory} holds no result: {error}.") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise UsageError(f"{directory}: has the format {found!r}; this version reads {FORMAT!r}.")
    try:
        records = [Record(**json.loads(line)) for line in requests.splitlines()]
        records.sort(key=lambda record: record.number)
        scrapes = [Scrape(**json.loads(line)) for line in looks.splitlines()]
        profile = Profile.model_validate(about["profile"])
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{directory} holds a result that was changed, or that another version wrote: "
            f"{' '.join(str(error).split())}."
        ) from error
    if unfinished:
        about |= {
            "unfinished": True,
            "client": client_load(records, [], is_open=profile.is_open()).as_json(),
            "figures": summary(records, profile),
        }
    return Result(directory, about, profile, records, scrapes)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")
