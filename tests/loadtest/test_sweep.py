"""Sweeps: one run at each rate, and the page with the curves."""

import json
import re
from pathlib import Path

import pytest
from longrope_loadtest.errors import UsageError
from longrope_loadtest.results import results
from longrope_loadtest.run import cache
from longrope_loadtest.sweep.command import rates_of

from tests.loadtest.commands import loadtest, written
from tests.loadtest.mocking import MockServer, profile
from tests.loadtest.test_report import titles

FEW = {"kind": "constant", "rate": 40, "requests": 8}


def test_a_run_is_made_at_each_rate(server: MockServer, tmp_path: Path) -> None:
    # One request at a time, 20 ms each: 50 a second.
    path = written(tmp_path, FEW, {"busy": 0.02, "tokens": 2}, slo={"ttft": 5})
    out = tmp_path / "out"
    outcome = loadtest("sweep", path, "--url", server.url, "-o", out, "--rates", "200,20")
    assert outcome.status == 0
    slow, fast = json.loads((out / "sweep.json").read_text())
    assert (slow["rate"], fast["rate"]) == (20, 200)
    e2e = [point["figures"]["a"]["latency"]["e2e_intended"]["p99"] for point in (slow, fast)]
    assert e2e[0] < 0.1 < e2e[1]  # 8 requests at once take 160 ms
    for point in (slow, fast):
        result = results.read(out / point["directory"])
        assert len(result.records) == 8
        assert result.profile.arrivals.rate == point["rate"]  # type: ignore[union-attr]
    bodies = [truth.body for truth in server.truths()]
    assert len(set(bodies)) == 16  # no prompt of one run was in the other
    text = (out / "sweep.html").read_text()
    assert titles(text) == [
        *(f"{name} by rate" for name in ("TTFT", "TPOT", "E2E")),
        "Requests within the objectives",
        "Output tokens/s",
    ]
    assert "<script" not in text
    assert re.findall(r"https?://[^<\"]*", text) == [server.url]


def test_no_prompt_is_in_a_sweep_with_the_next_seed(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, FEW)
    for seed in ("0", "1"):
        arguments = ("--rates", "40,41", "--seed", seed, "-o", tmp_path / seed)
        assert loadtest("sweep", path, "--url", server.url, *arguments).status == 0
    assert len({truth.body for truth in server.truths()}) == 4 * 8


def test_a_sweep_that_ends_early_keeps_its_runs(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(url: str, key: str | None) -> None:
        if (out / "01-rate-20").exists():
            raise UsageError("Other requests are running on it.")

    monkeypatch.setattr(cache, "reset", reset)
    out = tmp_path / "out"
    arguments = (written(tmp_path, FEW), "--url", server.url, "--rates", "20,40", "--reset-cache")
    outcome = loadtest("sweep", *arguments, "-o", out)
    assert (outcome.status, outcome.stderr.splitlines()[-1]) == (
        2,
        "longrope: Other requests are running on it.",
    )
    assert [point["rate"] for point in json.loads((out / "sweep.json").read_text())] == [20]
    assert (out / "sweep.html").exists()


@pytest.mark.parametrize("name", ["sweep.json", "capacity.json"])
@pytest.mark.parametrize("command", ["run", "sweep", "capacity"])
def test_the_runs_of_two_commands_are_not_mixed(
    server: MockServer, tmp_path: Path, command: str, name: str
) -> None:
    (tmp_path / name).write_text("[]")
    path = written(tmp_path, FEW, slo={"e2e": 60})
    outcome = loadtest(command, path, "--url", server.url, "-o", tmp_path)
    assert outcome.status == 2
    assert "holds a result already: name another with -o" in outcome.stderr
    assert (tmp_path / name).read_text() == "[]"
    assert server.truths() == []


def test_rates_are_around_the_profiles_by_default() -> None:
    assert rates_of(None, profile(FEW)) == [10, 20, 40, 80, 160]
    assert rates_of("8, 0.5,8", profile(FEW)) == [0.5, 8]


@pytest.mark.parametrize("text", ["", "1,", "0", "-1", "a", "1;2", "inf", "nan"])
def test_rates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be numbers above 0 such as"):
        rates_of(text, profile(FEW))


def test_a_profile_without_a_rate_is_refused(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, {"kind": "closed", "users": 1, "requests": 1})
    outcome = loadtest("sweep", path, "--url", server.url, "-o", tmp_path / "out")
    assert outcome.status == 2
    assert "constant, poisson or gamma" in outcome.stderr
    assert server.truths() == []
