"""A disk that is full: one sentence, and what was written before is kept."""

import subprocess
from pathlib import Path

import pytest

from tests.loadtest.commands import COMMAND, Outcome, loadtest, requests_in, written
from tests.loadtest.mocking import MockServer

LONG = {"kind": "constant", "rate": 100, "requests": 300}


def limited(kib: int, *arguments: str | Path) -> Outcome:
    """Runs a command whose files have at most so many KiB: another error, the same path."""
    shell = ["bash", "-c", f'ulimit -f {kib} && exec "$@"', "bash"]
    command = [*shell, *COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_ends_when_its_requests_cannot_be_written(
    server: MockServer, tmp_path: Path, processes: str
) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, LONG, prompt={"kind": "words", "tokens": 1})
    outcome = limited(100, "run", path, "--url", server.url, "-o", out, "--processes", processes)
    assert outcome.status == 2
    assert "requests.jsonl cannot be written: File too large. This ended the run" in outcome.stderr
    assert len(server.truths()) < 300
    assert loadtest("report", out).status == 0
    text = (out / "requests.jsonl").read_text()
    assert f"{text.count(chr(10))} of 300 planned" in (out / "report.html").read_text()


def test_a_run_that_cannot_begin_leaves_its_directory_empty(
    server: MockServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arrivals = {"kind": "constant", "rate": 100, "requests": 2}
    path = written(tmp_path, arrivals, profile={"description": "long " * 1000})
    outcome = limited(2, "run", path, "--url", server.url, "-o", out)
    assert outcome.status == 2
    assert f"{out} cannot be written: File too large." in outcome.stderr
    assert server.truths() == []
    assert list(out.iterdir()) == []
    assert loadtest("run", path, "--url", server.url, "-o", out).status == 0


def test_a_result_that_cannot_be_written(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, {"kind": "constant", "rate": 100, "requests": 2})
    outcome = limited(2, "run", path, "--url", server.url, "-o", out)
    assert outcome.status == 2
    assert f"{out} cannot be written: File too large." in outcome.stderr
    assert len(requests_in(out)) == 2
    assert loadtest("report", out).status == 0


def test_a_report_that_cannot_be_written(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, {"kind": "constant", "rate": 100, "requests": 5})
    outcome = limited(30, "run", path, "--url", server.url, "-o", out)
    assert outcome.status == 2
    assert "report.html cannot be written: File too large." in outcome.stderr
    outcome = limited(30, "sweep", path, "--url", server.url, "-o", tmp_path / "s", "--rates", "9")
    assert outcome.status == 2
    assert "sweep.html cannot be written: File too large." in outcome.stderr
