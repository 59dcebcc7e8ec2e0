"""Emptying the server's prefix cache before a run."""

from pathlib import Path

import httpx
import pytest
from longrope_loadtest.errors import UsageError
from longrope_loadtest.run import cache

from tests.loadtest.commands import loadtest, written
from tests.loadtest.mocking import MockServer, serving

FEW = {"kind": "constant", "rate": 50, "requests": 3}


@pytest.mark.long
def test_each_run_of_a_sweep_empties_the_cache(tmp_path: Path) -> None:
    path = written(tmp_path, FEW)
    with serving("--resets", "1") as server:  # the first time, it is not done yet
        outcome = loadtest(
            *("sweep", path, "--url", server.url, "-o", tmp_path / "out"),
            *("--rates", "50,90", "--reset-cache"),
        )
        assert outcome.status == 0
        assert httpx.get(f"{server.url}/mock/resets").json() == 1 - 3
        assert len(server.truths()) == 6


def test_a_server_that_cannot_is_refused(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, FEW)
    outcome = loadtest("run", path, "--url", server.url, "-o", tmp_path / "out", "--reset-cache")
    assert outcome.status == 2
    assert "has no /reset_prefix_cache, which --reset-cache needs" in outcome.stderr
    assert server.truths() == []
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_busy_or_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SECONDS", 0.5)
    busy = pytest.raises(UsageError, match="other requests are running")
    with serving("--resets", "100") as server, busy:
        cache.reset(server.url, None)
    with pytest.raises(UsageError, match="did not answer"):
        cache.reset("http://127.0.0.1:1", None)
