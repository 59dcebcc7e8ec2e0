import asyncio
import time
from types import SimpleNamespace

import pytest
from longrope_loadtest.run import lag
from longrope_loadtest.run.lag import Busy, LoopLag, client_load

from tests.loadtest.records import record


def measured(latenesses: list[float], *, is_open: bool = True, e2e: float = 0.1) -> tuple[str, ...]:
    records = [
        record(n, at=n / 10, late=late, token_times=(e2e,)) for n, late in enumerate(latenesses)
    ]
    return client_load(records, [LoopLag().busy()], is_open=is_open).verdicts


def test_a_client_that_kept_up_has_no_verdict() -> None:
    assert measured([0.001] * 100) == ()


def test_requests_sent_late_are_told() -> None:
    (verdict,) = measured([0.001] * 90 + [0.2] * 10)
    assert "saturated" in verdict
    assert "200 ms late" in verdict


def test_what_is_late_is_measured_by_the_latencies() -> None:
    assert measured([0.001] * 90 + [0.2] * 10, e2e=10) == ()


@pytest.mark.parametrize(("loop_lag", "e2e", "told"), [(0.2, 1, True), (0.2, 10, False)])
def test_an_event_loop_that_is_late_is_told(loop_lag: float, e2e: float, told: bool) -> None:
    """As in a closed loop, where nothing is due while a request is running."""
    records = [record(n, at=n / 10, token_times=(e2e,)) for n in range(100)]
    verdicts = client_load(records, [Busy(loop_lag, 0.2, 10)], is_open=False).verdicts
    assert [("event loop was 200 ms late" in verdict) for verdict in verdicts] == [True] * told


def test_a_rate_that_was_not_reached_is_told() -> None:
    verdicts = measured([n / 10 for n in range(100)], e2e=1000)
    assert len(verdicts) == 1
    assert "5.0 requests/s instead of 10.0" in verdicts[0]


def test_a_closed_loop_has_no_rate_to_reach() -> None:
    load = client_load([record(0), record(1, at=1)], [LoopLag().busy()], is_open=False)
    assert (load.intended_rate, load.achieved_rate, load.verdicts) == (None, None, ())


def test_a_core_that_is_used_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that stands still while another process has the core.
    alone = SimpleNamespace(perf_counter=time.process_time, process_time=time.process_time)
    monkeypatch.setattr(lag, "time", alone)
    loop_lag = LoopLag()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    load = client_load([], [loop_lag.busy()], is_open=True)
    assert "of a core" in load.verdicts[0]


def test_a_moment_tells_nothing_of_the_core() -> None:
    loop_lag = LoopLag()
    sum(range(10_000))  # all of the moment is the client's own
    assert client_load([], [loop_lag.busy()], is_open=True).verdicts == ()


def test_a_client_that_sent_nothing_has_no_lag() -> None:
    load = client_load([], [], is_open=True)
    assert (load.send_lag_p50, load.send_lag_p99, load.send_lag_max) == (None, None, None)
    assert (load.loop_lag_p99, load.cpu_share, load.verdicts) == (None, None, ())


async def test_an_event_loop_that_is_held_up_is_seen() -> None:
    loop_lag = LoopLag()
    watching = asyncio.create_task(loop_lag.watch())
    await asyncio.sleep(0.01)
    time.sleep(0.3)
    await asyncio.sleep(0.01)
    watching.cancel()
    assert loop_lag.busy().loop_lag_p99 > 0.2


def test_of_several_processes_the_busiest_is_told() -> None:
    load = client_load([record(0)], [Busy(0.001, 0.3, 1), Busy(0.2, 0.95, 1)], is_open=True)
    assert (load.loop_lag_p99, load.cpu_share) == (0.2, 0.95)
    assert load.verdicts[0].endswith("give it more with --processes.")
