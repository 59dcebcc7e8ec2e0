"""A run that is ended from outside, in a process of its own."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.loadtest.commands import loadtest, requests_in, started, written
from tests.loadtest.mocking import MockServer, serving

# A minute; each request takes 0.2 s, so that some are running at any time.
LONG = {"kind": "constant", "rate": 50, "duration": 60}
MOCK = {"first": 0.1, "gap": 0.02, "tokens": 6}


@contextmanager
def running(*arguments: str | Path) -> "Iterator[subprocess.Popen[str]]":
    process = started(*arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_control_c_writes_what_there_is(
    server: MockServer, tmp_path: Path, number: signal.Signals, processes: int
) -> None:
    out = tmp_path / "out"
    arguments = ("run", written(tmp_path, LONG, MOCK), "--url", server.url, "-o", out)
    with running(*arguments, "--processes", str(processes)) as process:
        wait_for(lambda: lines(out / "requests.jsonl") > 20, process)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    about = json.loads((out / "result.json").read_text())
    assert about["interrupted"] is True
    assert about["planned_requests"] == 3000
    counts = about["figures"]["a"]["requests"]
    assert counts["complete"] > 20
    assert 1 <= counts["interrupted"] < 30
    assert counts["failed"] == 0
    assert counts["sent"] == counts["complete"] + counts["interrupted"] == len(requests_in(out))
    assert (out / "report.html").exists()
    assert loadtest("report", out).status == 0


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_control_c_does_not_lose_the_result(tmp_path: Path, processes: int) -> None:
    out = tmp_path / "out"
    # Its metrics take long, and the run waits for the last of them.
    with serving("--metrics-take", "4") as slow:
        arguments = ("run", written(tmp_path, LONG, MOCK), "--url", slow.url, "-o", out)
        with running(*arguments, "--processes", str(processes)) as process:
            wait_for(lambda: lines(out / "requests.jsonl") > 20, process)
            for _ in range(3):
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            wait_for((out / "result.json").exists, process)
    assert json.loads((out / "result.json").read_text())["interrupted"] is True


def test_control_c_works_after_a_run(server: MockServer, tmp_path: Path) -> None:
    """While the next run of a sweep is being prepared, for example."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    path = written(tmp_path, {"kind": "constant", "rate": 50, "requests": 2})
    assert loadtest("run", path, "--url", server.url, "-o", tmp_path / "out").status == 0
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.long
def test_control_c_in_a_capacity_search_keeps_its_runs(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, LONG, MOCK, slo={"ttft": 1})
    arguments = ("capacity", path, "--url", server.url, "-o", out)
    first = out / "01-rate-50-repeat-1"
    with running(*arguments) as process:
        wait_for(lambda: lines(first / "requests.jsonl") > 20, process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert json.loads((first / "result.json").read_text())["interrupted"] is True
    assert [folder.name for folder in out.iterdir()] == [first.name]


def test_control_c_before_the_first_request(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A gigabyte of prompts: making them takes a while.
    path = written(tmp_path, LONG, prompt={"kind": "words", "tokens": 50_000})
    with running("run", path, "--url", server.url, "-o", out) as process:
        wait_for(out.exists, process)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert server.truths() == []


def test_a_killed_run_leaves_the_requests_that_were_over(
    server: MockServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    each = {"prompt": {"kind": "words", "tokens": 16}, "output_tokens": 6}
    # Eight short requests are less than a file's buffer holds; then nothing ends for a minute.
    classes = {
        "short": {
            **each,
            "arrivals": {"kind": "constant", "rate": 50, "requests": 8},
            "extra": {"mock": MOCK},
        },
        "long": {
            **each,
            "arrivals": {"kind": "constant", "rate": 1, "requests": 1},
            "extra": {"mock": {"first": 60}},
        },
    }
    path = tmp_path / "profile.yaml"
    path.write_text(json.dumps({"classes": classes}))
    with running("run", path, "--url", server.url, "-o", out) as process:
        wait_for(lambda: lines(out / "requests.jsonl") == 8, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    kept = requests_in(out)
    assert {(line["class_name"], line["outcome"]) for line in kept} == {("short", "complete")}
    assert all(len(line["token_gaps"]) == 5 for line in kept)
    assert not (out / "result.json").exists()
    with (out / "requests.jsonl").open("a") as file:
        file.write('{"number": 8, "class_na')  # killed while it wrote
    reported = loadtest("report", out)
    assert reported.status == 0
    assert "There is no result.json: the run was killed" in " ".join(reported.stdout.split())
    page = (out / "report.html").read_text()
    assert "There is no result.json: the run was killed" in page
    assert "8 of 9 planned" in page
    compared = json.loads(loadtest("compare", out, out, "--json").stdout)
    assert compared["notes"][0].startswith("A: There is no result.json: the run was killed")
    assert compared["classes"]["short"][0]["figure"] == "ttft"
    assert loadtest("compare", out, out, "--fail-above", "9").status == 2
    assert not (out / "result.json").exists()


def test_a_run_that_was_killed_before_any_request_was_over(
    server: MockServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, {"kind": "constant", "rate": 1, "requests": 1}, {"first": 60})
    with running("run", path, "--url", server.url, "-o", out) as process:
        wait_for((out / "begun.json").exists, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    assert requests_in(out) == []
    assert loadtest("report", out).status == 0
    assert "No request after the warm-up was over" in (out / "report.html").read_text()


def test_a_sweep_that_is_killed_keeps_its_runs(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, {"kind": "constant", "rate": 1, "duration": 1})
    rates = ("--rates", "2,60000")  # the second's requests take a while to make
    with running("sweep", path, "--url", server.url, "-o", out, *rates) as process:
        wait_for((out / "sweep.json").exists, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    assert [point["rate"] for point in json.loads((out / "sweep.json").read_text())] == [2]


def test_no_process_outlives_the_one_that_follows(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, LONG, MOCK)
    with running("run", path, "--url", server.url, "-o", out, "--processes", "3") as process:
        wait_for(lambda: lines(out / "requests.jsonl") > 20, process)
        children = psutil.Process(process.pid).children()
        assert len(children) == 3
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
        assert not alive
        assert "Traceback" not in process.communicate()[1]


@pytest.mark.long
def test_what_others_send_outlives_a_process(server: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, LONG | {"duration": 4}, MOCK)
    with running("run", path, "--url", server.url, "-o", out, "--processes", "3") as process:
        wait_for(lambda: lines(out / "requests.jsonl") > 20, process)
        _, second, _ = psutil.Process(process.pid).children()
        second.kill()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "Traceback" not in stderr
    about = json.loads((out / "result.json").read_text())
    complete = about["figures"]["a"]["requests"]["complete"]
    assert complete == len(requests_in(out)) >= 133
    assert about["client"]["deaths"] == 1
    assert about["client"]["verdicts"][0] == (
        f"A sending process ended by SIGKILL: {200 - complete} of its 67 requests are missing "
        "from the figures."
    )
    assert "A sending process ended by SIGKILL" in (out / "report.html").read_text()
