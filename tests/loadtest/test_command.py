"""Whole runs of the command: what they leave, and their status."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest.capacity import capacity
from longrope_loadtest.results import results

from tests.loadtest.commands import Outcome, loadtest, requests_in, written
from tests.loadtest.mocking import MockServer, serving

TWENTY = {"kind": "constant", "rate": 50, "requests": 20}
FILES = {"requests.jsonl", "requests.csv", "server_metrics.jsonl", "result.json", "report.html"}


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than such a run."""
    monkeypatch.setattr("longrope_loadtest.cli.write_report", lambda result: result.directory)


def run(server: MockServer, path: Path, *more: str | Path, command: str = "run") -> Outcome:
    return loadtest(command, path, "--url", server.url, "-o", path.parent / "out", *more)


def test_a_run_leaves_its_result(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TWENTY, {"first": 0.02, "tokens": 5}, slo={"ttft": 1})
    outcome = run(server, path, "--seed", "7")
    assert outcome.status == 0
    assert "20" in outcome.stderr
    assert outcome.stdout == ""
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == FILES
    about = json.loads((out / "result.json").read_text())
    assert about["format"] == results.FORMAT
    assert (about["seed"], about["planned_requests"], about["interrupted"]) == (7, 20, False)
    assert about["model"] == "mock"
    assert about["figures"]["a"]["requests"]["complete"] == 20
    lines = requests_in(out)
    assert sorted(line["number"] for line in lines) == list(range(20))
    with (out / "requests.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 20
    assert "<html" in (out / "report.html").read_text()


@pytest.mark.long
def test_a_result_is_read_back_as_it_was(server: MockServer, tmp_path: Path) -> None:
    run(server, written(tmp_path, TWENTY, {"tokens": 5, "factor_set": 8192}, slo={"ttft": 1}))
    out = tmp_path / "out"
    result = results.read(out)
    assert [record.number for record in result.records] == list(range(20))
    assert all(len(record.token_gaps) == 4 for record in result.records)
    assert result.profile.classes["a"].slo is not None
    assert result.scrapes
    before = json.loads((out / "result.json").read_text())["figures"]
    assert loadtest("report", out).status == 0
    assert json.loads((out / "result.json").read_text())["figures"] == before


@pytest.mark.usefixtures("without_report")
def test_the_same_seed_sends_the_same(server: MockServer, tmp_path: Path) -> None:
    def bodies(seed: str, out: str) -> tuple[list[int], str]:
        path = written(tmp_path, TWENTY)
        loadtest("run", path, "--url", server.url, "-o", tmp_path / out, "--seed", seed)
        about = json.loads((tmp_path / out / "result.json").read_text())
        return sorted(truth.body for truth in server.truths()), about["requests_sha256"]

    first = bodies("1", "a")
    assert bodies("1", "b") == first
    assert bodies("2", "c")[1] != first[1]


@pytest.mark.usefixtures("without_report")
def test_the_address_may_end_with_v1(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TWENTY)
    for number, ending in enumerate(("/v1/", "/behind/a/prefix/v1")):
        out = tmp_path / str(number)
        assert loadtest("run", path, "--url", server.url + ending, "-o", out).status == 0


@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize(
    ("slo", "attainment", "mock", "status"),
    [
        ({"ttft": 0.01}, 0.99, {"first": 0.1}, 1),
        ({"ttft": 0.01}, 0, {"first": 0.1}, 0),
        (None, 0.99, {"status": 503}, 1),
        ({"ttft": 5}, 0.99, {"cut_at": 2}, 1),
        ({"ttft": 5}, 0.99, {"first": 0.1}, 0),
        (None, 1, {}, 0),
    ],
)
def test_the_status_says_whether_the_objectives_were_met(
    server: MockServer,
    tmp_path: Path,
    slo: dict[str, float] | None,
    attainment: float,
    mock: dict[str, Any],
    status: int,
) -> None:
    path = written(tmp_path, TWENTY, mock, slo=slo, profile={"attainment": attainment})
    assert run(server, path).status == status
    assert (tmp_path / "out" / "result.json").exists()


@pytest.mark.usefixtures("without_report")
def test_a_run_that_counts_nothing_shows_nothing(server: MockServer, tmp_path: Path) -> None:
    closed = {"kind": "closed", "users": 2, "requests": 4}
    path = written(tmp_path, closed, {"status": 500}, profile={"warm_up": 60})
    outcome = run(server, path)
    assert outcome.status == 1, "all of them ended in the warm-up"
    (within,) = [line for line in outcome.stderr.splitlines() if "within objectives" in line]
    assert "%" not in within
    shutil.rmtree(tmp_path / "out")
    for command in ("run", "sweep"):
        outcome = run(
            server, written(tmp_path, TWENTY, {}, profile={"warm_up": 60}), command=command
        )
        assert outcome.status == 2
        assert "due within the warm_up of 60 s" in outcome.stderr


@pytest.mark.usefixtures("without_report")
def test_a_stall_keeps_what_there_was(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TWENTY, {"stall_at": 3}, stall=0.5)
    outcome = run(server, path)
    assert outcome.status == 1
    assert "20 x stalled" in outcome.stderr
    for line in requests_in(tmp_path / "out"):
        assert line["error"] == "stalled"
        assert len(line["token_gaps"]) == 2


def test_what_went_wrong_is_said_with_the_servers_words(server: MockServer, tmp_path: Path) -> None:
    outcome = run(server, written(tmp_path, TWENTY, {"status": 503}))
    assert "a: 20 x http 503: mock says 503" in outcome.stderr


def test_a_proxy_is_for_nothing_that_the_server_is_asked(tmp_path: Path) -> None:
    proxies = {f"{kind}_PROXY": "http://127.0.0.1:1" for kind in ("HTTP", "HTTPS", "ALL")}
    with serving("--resets", "0") as server:
        path = written(tmp_path, {**TWENTY, "requests": 2})
        arguments = ("--url", server.url, "-o", tmp_path / "out", "--reset-cache")
        outcome = loadtest("run", path, *arguments, NO_PROXY="", **proxies)
    assert outcome.status == 0, outcome.stderr
    assert results.read(tmp_path / "out").scrapes


@pytest.mark.parametrize("name", ["docs[long]", "[/x]"])
def test_the_name_of_a_class_is_no_markup(server: MockServer, tmp_path: Path, name: str) -> None:
    path = written(tmp_path, {**TWENTY, "requests": 2}, prompt={"kind": "passkey", "tokens": 90})
    path.write_text(path.read_text().replace('"a":', f'"{name}":'))
    folder = tmp_path / "[old] out"
    outcome = loadtest("run", path, "--url", server.url, "-o", folder)
    assert outcome.status == 0
    assert outcome.stderr.count(name) == 3  # during the run, in the summary, with the passkeys
    assert outcome.stderr.endswith(f"{folder / 'report.html'}\n")
    assert name in loadtest("report", folder).stdout


def test_a_server_that_counts_no_tokens_is_told(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TWENTY, {"usage": False})
    outcome = run(server, path)
    assert outcome.status == 0
    assert "a: 20 of 20 answers came without the server's count of tokens" in outcome.stderr
    assert "0.0" not in next(x for x in outcome.stderr.splitlines() if "output tokens/s" in x)
    assert "without usage" in (tmp_path / "out" / "report.html").read_text()
    arguments = ("--url", server.url, "-o", tmp_path / "sweep", "--rates", "50")
    assert loadtest("sweep", path, *arguments).status == 0
    assert loadtest("compare", tmp_path / "out", tmp_path / "out").status == 0


def test_half_a_surrogate_pair_does_not_lose_the_result(server: MockServer, tmp_path: Path) -> None:
    """A gateway that cuts a message within a pair of escapes."""
    raw = 'data: {"error": {"message": "no \\ud83d"}}\n\n'
    outcome = run(server, written(tmp_path, TWENTY, {"raw_at": 1, "raw": raw}))
    assert outcome.status == 1
    assert "20 x error event: no ?" in outcome.stderr
    assert "no ?" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("mock", [{"factor_set": "\xff"}, {"promoted_to": "\ud83d"}])
def test_a_set_that_is_no_text_does_not_lose_the_result(
    server: MockServer, tmp_path: Path, mock: dict[str, Any]
) -> None:
    outcome = run(server, written(tmp_path, TWENTY, {"factor_set": "8192", **mock}))
    assert outcome.status == 0
    (kind,) = json.loads((tmp_path / "out" / "result.json").read_text())["figures"].values()
    assert kind["requests"]["complete"] == 20
    assert loadtest("report", tmp_path / "out").status == 0


@pytest.mark.long
def test_the_capacity_of_a_server_is_found(server: MockServer, tmp_path: Path) -> None:
    arrivals = {"kind": "constant", "rate": 40, "duration": 0.7}
    # One request at a time, 20 ms each: 50 a second.
    path = written(tmp_path, arrivals, {"busy": 0.02, "tokens": 2}, slo={"ttft": 0.08})
    outcome = run(server, path, "--repeats", "1", command="capacity")
    assert outcome.status == 0
    found = json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert 40 <= found["rate"] < 60
    assert found["rate"] < found["missed_at"] <= 1.05 * found["rate"]
    assert "Capacity: " in outcome.stderr
    runs = sorted((tmp_path / "out").glob("*-rate-*"))
    assert len(runs) == len(found["probes"])
    for directory in runs:
        assert results.read(directory).records
    # No prompt of one run was in an earlier one.
    bodies = [truth.body for truth in server.truths()]
    assert len(set(bodies)) == len(bodies)


@pytest.mark.long
def test_a_server_that_meets_its_objectives_at_no_rate(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "DOUBLINGS", 2)
    arrivals = {"kind": "constant", "rate": 200, "requests": 3}
    path = written(tmp_path, arrivals, {"first": 0.02}, slo={"ttft": 0.001})
    outcome = run(server, path, "--repeats", "1", command="capacity")
    assert outcome.status == 1
    assert "No rate down to" in outcome.stderr


def test_our_profiles_are_listed_and_printed() -> None:
    listed = loadtest("profiles").stdout
    for name in ("agent", "chat", "documents", "mixed", "quarter-million", "two-million"):
        assert name in listed
        assert "classes:" in loadtest("profiles", name).stdout


@pytest.mark.usefixtures("without_report")
def test_a_comparison_can_fail(server: MockServer, tmp_path: Path) -> None:
    for name, first in (("a", 0.02), ("b", 0.06)):
        path = written(tmp_path, TWENTY, {"first": first})
        loadtest("run", path, "--url", server.url, "-o", tmp_path / name)
    a, b = tmp_path / "a", tmp_path / "b"
    assert loadtest("compare", a, b).status == 0
    worse = loadtest("compare", a, b, "--fail-above", "1.1")
    assert worse.status == 1
    assert "longrope: a: TTFT p50 is" in worse.stderr
    assert "worse" in worse.stdout
    assert loadtest("compare", b, a, "--fail-above", "1.1").status == 0
    assert loadtest("compare", a, b, "--fail-above", "0.5").status == 2
