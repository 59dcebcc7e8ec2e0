"""Whether the client kept up; if it did not, the latencies are its own and not the server's."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from longrope_loadtest.run.record import CLIENT_LIMIT, Record

TICK = 0.05  # seconds between checks of the event loop
# The limit for the send lag's p99 is the larger of these two:
LAG_LIMIT = 0.010  # seconds
LAG_SHARE = 0.05  # of the median latency
RATE_LIMIT = 0.95  # achieved over intended
CPU_LIMIT = 0.9  # of one core, because Python runs on one
CPU_SPAN = 0.2  # seconds; the share of a shorter time says nothing


@dataclass(frozen=True)
class ClientLoad:
    """How busy the client itself was; times in seconds.

    None if nothing was sent, or if no process lived to tell.
    """

    send_lag_p50: float | None  # from the intended time to the dispatch
    send_lag_p99: float | None
    send_lag_max: float | None
    loop_lag_p99: float | None  # how late the event loop was; of several processes, the latest
    cpu_share: float | None  # of one core; of several processes, the greatest
    intended_rate: float | None  # requests per second; None in a closed loop
    achieved_rate: float | None
    deaths: int  # of its processes, before they had sent all that they should
    verdicts: tuple[str, ...]  # sentences; none if the client kept up

    def as_json(self) -> dict[str, object]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class Busy:
    """How busy one process of the client was."""

    loop_lag_p99: float  # seconds
    cpu_share: float  # of one core
    span: float  # seconds in which it was measured


class LoopLag:
    """Measures how late the event loop is."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._began = (time.perf_counter(), time.process_time())

    async def watch(self) -> None:
        """Run until cancelled."""
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self._lags.append(max(0.0, time.perf_counter() - due))

    def busy(self) -> Busy:
        """How busy the process was from the beginning until now."""
        wall, cpu = self._began
        span = time.perf_counter() - wall
        return Busy(
            loop_lag_p99=float(np.percentile(self._lags or [0.0], 99)),
            cpu_share=(time.process_time() - cpu) / max(1e-9, span),
            span=span,
        )


def client_load(
    records: Sequence[Record],
    processes: Sequence[Busy],
    deaths: Sequence[str] = (),
    *,
    is_open: bool,
) -> ClientLoad:
    """The load of a client of one process or several.

    `processes` has those that lived to the end, `deaths` a sentence for each of the others.
    """
    share = max((busy.cpu_share for busy in processes), default=None)
    late = max((busy.loop_lag_p99 for busy in processes), default=None)
    lags = [record.dispatched - record.intended for record in records]
    p50, p99 = map(float, np.percentile(lags, (50, 99))) if lags else (None, None)
    intended = _rate([record.intended for record in records]) if is_open else None
    achieved = _rate([record.dispatched for record in records]) if is_open else None
    latencies = [latency for record in records if (latency := record.e2e()) is not None]
    allowed = max(LAG_LIMIT, LAG_SHARE * float(np.median(latencies))) if latencies else 1.0
    verdicts = list(deaths)
    refused = sum(record.error == CLIENT_LIMIT for record in records)
    if refused:
        verdicts.append(
            f"The client's system refused it a connection for {refused} requests, which count as "
            f"failed: raise its number of open files (ulimit -n) or of local ports."
        )
    if p99 is not None and p99 > allowed:
        verdicts.append(
            f"The client was saturated: 1 % of the requests were sent {1000 * p99:.0f} ms late "
            f"or later. Latencies from dispatch look better than they were for a user."
        )
    if intended and achieved and achieved < RATE_LIMIT * intended:
        verdicts.append(
            f"The client did not reach the intended rate: {achieved:.1f} requests/s instead of "
            f"{intended:.1f}."
        )
    if share is not None and share > CPU_LIMIT and min(busy.span for busy in processes) >= CPU_SPAN:
        verdicts.append(
            f"The client used {100 * share:.0f} % of a core, all that one process can: "
            f"give it more with --processes."
        )
    if late is not None and late > allowed >= (p99 or 0):
        verdicts.append(
            f"The client was held up: its event loop was {1000 * late:.0f} ms late or later 1 % of "
            f"the time, and the times of the tokens are as late."
        )
    return ClientLoad(
        send_lag_p50=p50,
        send_lag_p99=p99,
        send_lag_max=max(lags, default=None),
        loop_lag_p99=late,
        cpu_share=share,
        intended_rate=intended,
        achieved_rate=achieved,
        deaths=len(deaths),
        verdicts=tuple(verdicts),
    )


def _rate(times: Sequence[float]) -> float | None:
    span = max(times) - min(times) if len(times) > 1 else 0.0
    return (len(times) - 1) / span if span else None
