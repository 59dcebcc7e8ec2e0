"""The client's own load, which shows whether the latencies are the server's."""

from typing import Any

import numpy as np

from longrope_loadtest.report import texts
from longrope_loadtest.report.drawing import INK, Picture, picture, points, scale, time_axis
from longrope_loadtest.report.looks import ORANGE, Look
from longrope_loadtest.report.timelines import end_of
from longrope_loadtest.run.record import Record

FLOOR = 1e-5  # seconds of lag; less is noise
BINS = 50


def client_facts(client: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a table of the client's load."""
    rows = [
        (f"send lag {at}", texts.duration(client[f"send_lag_{at}"])) for at in ("p50", "p99", "max")
    ]
    rows.append(("event loop late by, p99", texts.duration(client["loop_lag_p99"])))
    rows.append(("CPU, of one core", texts.percent(client["cpu_share"])))
    for word in ("intended", "achieved"):
        rate = client[f"{word}_rate"]
        if rate is not None:
            rows.append((f"{word} rate", f"{texts.rate(rate)} requests/s"))
    return rows


def client_pictures(
    by_class: dict[str, list[Record]], looks: dict[str, Look], *, is_open: bool
) -> list[Picture]:
    """Send lag over time and, for an open loop, the intended and the achieved rate."""
    everything = [record for records in by_class.values() for record in records]
    if not everything:
        return []
    end = end_of(by_class)
    pictures = [_lag(by_class, looks, end)]
    if is_open and len(everything) > 1:
        pictures.append(_rates(everything, end))
    return pictures


def _lag(by_class: dict[str, list[Record]], looks: dict[str, Look], end: float) -> Picture:
    seen = {
        name: [(r.intended, max(FLOOR, r.dispatched - r.intended)) for r in records]
        for name, records in by_class.items()
        if records
    }
    lags = [lag for pairs in seen.values() for _, lag in pairs]

    def draw(axes: Any) -> None:
        time_axis(axes, end)
        for name, pairs in seen.items():
            points(axes, pairs, looks[name], len(lags))
        scale(axes.yaxis, lags, texts.tick)
        axes.set_ylabel("send lag")

    return picture("Send lag of each request", draw, "From the intended time to the dispatch.")


def _rates(records: list[Record], end: float) -> Picture:
    intended = [record.intended for record in records]
    dispatched = [record.dispatched for record in records]
    edges = np.linspace(0, end, BINS + 1)

    def draw(axes: Any) -> None:
        time_axis(axes, end)
        for times, color, style, width in (
            (intended, INK, "-", 4.5),
            (dispatched, ORANGE, "-", 1.5),
        ):
            rates = np.histogram(times, edges)[0] / edges[1]
            axes.stairs(
                rates, edges, color=color, linestyle=style, linewidth=width,
                alpha=0.25 if color == INK else 1,
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_ylabel("requests/s")

    return picture(
        "Rate, intended and achieved", draw, "Broad and grey: intended. Narrow and orange: sent."
    )
