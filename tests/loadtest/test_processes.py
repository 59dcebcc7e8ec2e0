"""A run that several processes send: what is sent, and the figures joined."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest.profiles import plan
from longrope_loadtest.run.processes import split

from tests.loadtest.commands import loadtest, requests_in, written
from tests.loadtest.mocking import MockServer, profile

OPEN = {"kind": "constant", "rate": 50, "requests": 21}
TALK = {"kind": "conversation", "tokens": 9, "growth": 5, "turns": 3}


def send(server: MockServer, folder: Path, processes: int, path: Path) -> dict[str, Any]:
    out = folder / str(processes)
    outcome = loadtest(
        *("run", path, "--url", server.url, "-o", out, "--processes", str(processes))
    )
    assert outcome.status == 0, outcome.stderr
    about: dict[str, Any] = json.loads((out / "result.json").read_text())
    return about


@pytest.mark.long
@pytest.mark.parametrize(
    "arrivals", [OPEN, {"kind": "closed", "users": 4, "requests": 21, "think": 0.01}]
)
def test_several_processes_send_what_one_sends(
    server: MockServer, tmp_path: Path, arrivals: dict[str, Any]
) -> None:
    path = written(tmp_path, arrivals, {"first": 0.02}, prompt=TALK)
    one = send(server, tmp_path, 1, path)
    bodies = sorted(truth.body for truth in server.truths())
    three = send(server, tmp_path, 3, path)
    assert sorted(truth.body for truth in server.truths()) == bodies
    assert len(bodies) == 63
    assert three["requests_sha256"] == one["requests_sha256"]
    for about in (one, three):
        figures = about["figures"]["a"]
        assert figures["requests"]["complete"] == figures["latency"]["ttft"]["count"] == 63
        assert figures["conversations"]["whole"] == 21
    written_requests = requests_in(tmp_path / "3")
    assert sorted(line["number"] for line in written_requests) == list(range(63))


def test_they_send_at_the_times_of_the_plan(server: MockServer, tmp_path: Path) -> None:
    send(server, tmp_path, 3, written(tmp_path, OPEN))
    requests = sorted(requests_in(tmp_path / "3"), key=lambda line: line["number"])
    assert [line["intended"] for line in requests] == pytest.approx([n / 50 for n in range(21)])
    arrived = sorted(truth.arrived for truth in server.truths())
    gaps = sorted(after - before for before, after in pairwise(arrived))
    assert gaps[10] == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("users", [1, 2, 5])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_plan_is_split_without_loss(users: int, number: int) -> None:
    closed = {"kind": "closed", "users": users, "requests": 20, "think": 1}
    planned = plan.make(profile(closed, prompt=TALK), 0)
    parts = split(planned, number)
    assert len(parts) == min(users, number)
    assert sum(part.closed[0].number for part in parts) == users
    assert sorted(r.number for part in parts for r in part) == list(range(60))
    assert all(len(p.closed[0].requests) == len(p.closed[0].think) for p in parts)
    opened = plan.make(profile(OPEN), 0)
    assert sorted(r.number for part in split(opened, number) for r in part) == list(range(21))
