"""How much one client process can send; the mock server has the machine's other core.

    pytest -s -m slow tests/loadtest/test_rate.py

prints the figures. Client and server need a core each: with other work on the machine the client
is late, and rightly says so.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.results import Result
from longrope_loadtest.run.driving import Target
from longrope_loadtest.run.preflight import served_model
from longrope_loadtest.whole_run import Load, run_load
from rich.console import Console

from tests.loadtest.mock_server import MODEL
from tests.loadtest.mocking import MockServer, profile

SHORT = {"first": 0.05, "gap": 0.01, "tokens": 4}


def measured(server: MockServer, made: Profile, folder: Path) -> Result:
    """A run as from the command line, with its live view, and its figures printed."""
    with open(os.devnull, "w") as screen:
        console = Console(file=screen, force_terminal=True)
        target, model = Target(server.url, MODEL, None), served_model(server.url, None, None)
        load = Load(made, 0, target, model, folder / "out", folder)
        result = run_load(load, load.plan(), console)
    client: dict[str, Any] = result.about["client"]
    print(
        f"\n{len(result.records)} requests, {client['achieved_rate']:.1f}/s of "
        f"{client['intended_rate']:.1f}/s, send lag p50 {1000 * client['send_lag_p50']:.2f} ms, "
        f"p99 {1000 * client['send_lag_p99']:.2f} ms, max {1000 * client['send_lag_max']:.2f} ms, "
        f"{100 * client['cpu_share']:.0f} % of a core"
    )
    assert Counter(record.outcome for record in result.records) == {"complete": len(result.records)}
    return result


def a_thousand_a_second(seconds: float) -> Profile:
    arrivals = {"kind": "poisson", "rate": 1000, "duration": seconds}
    return profile(arrivals, SHORT, prompt={"tokens": 64})


@pytest.mark.long
def test_a_thousand_streams_a_second_for_three_seconds(server: MockServer, tmp_path: Path) -> None:
    result = measured(server, a_thousand_a_second(3), tmp_path)
    assert len(server.truths()) == len(result.records) == result.about["planned_requests"]


@pytest.mark.slow
def test_a_thousand_streams_a_second_do_not_saturate_the_client(
    server: MockServer, tmp_path: Path
) -> None:
    result = measured(server, a_thousand_a_second(10), tmp_path)
    assert not result.about["client"]["verdicts"]


@pytest.mark.slow
def test_a_hundred_prompts_of_half_a_million_tokens_do_not_saturate_the_client(
    server: MockServer, tmp_path: Path
) -> None:
    arrivals = {"kind": "constant", "rate": 5, "requests": 100}
    made = profile(arrivals, SHORT, prompt={"tokens": 500_000}, slo={"ttft": 5})
    result = measured(server, made, tmp_path)
    assert {record.prompt_tokens for record in result.records} == {500_000}
    assert not result.about["client"]["verdicts"]
