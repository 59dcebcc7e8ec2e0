"""The run over time: latencies, requests in flight, failures."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from longrope_loadtest.report import texts
from longrope_loadtest.report.drawing import (
    FAINT,
    STEPS,
    Picture,
    picture,
    points,
    scale,
    time_axis,
)
from longrope_loadtest.report.looks import Look
from longrope_loadtest.run.record import Record

LOOKS_IN_FLIGHT = 500  # moments at which the requests in flight are counted


def timelines(
    by_class: dict[str, list[Record]], looks: dict[str, Look], warm_up: float
) -> list[Picture]:
    """The pictures of a run over its time; none for a run without requests."""
    if not any(by_class.values()):
        return []
    pictures = []
    for title, label, of in (
        ("TTFT of each request", "TTFT from the intended time", Record.ttft),
        ("E2E of each request", "E2E from the intended time", Record.e2e),
    ):
        drawn = _latencies(by_class, looks, warm_up, title, label, of)
        if drawn is not None:
            pictures.append(drawn)
    return [*pictures, _in_flight(by_class, looks, warm_up)]


def end_of(by_class: dict[str, list[Record]]) -> float:
    """When the last request ended, in seconds; never 0."""
    return max(record.ended for records in by_class.values() for record in records) or 1.0


def _mark_time(
    axes: Any, by_class: dict[str, list[Record]], looks: dict[str, Look], warm_up: float
) -> None:
    """Draw what every picture has: the warm-up, failures at the top, the time axis."""
    if warm_up:
        axes.axvspan(0, warm_up, color=FAINT, linewidth=0, zorder=0)
    failed = {
        name: times
        for name, records in by_class.items()
        if (times := [record.intended for record in records if record.outcome == "failed"])
    }
    for row, (name, times) in enumerate(failed.items()):
        few = len(times) < 100
        axes.plot(
            times,
            [0.985 - 0.09 * row / max(3, len(failed))] * len(times),  # a row for each class
            "x",
            transform=axes.get_xaxis_transform(),
            color=looks[name].color,
            markersize=5 if few else 3,
            markeredgewidth=1.4 if few else 0.6,
            rasterized=not few,
        )
    axes.margins(y=0.12)
    time_axis(axes, end_of(by_class))


def _latencies(
    by_class: dict[str, list[Record]],
    looks: dict[str, Look],
    warm_up: float,
    title: str,
    label: str,
    of: Callable[..., float | None],
) -> Picture | None:
    seen = {
        name: [
            (record.intended, value)
            for record in records
            if record.outcome == "complete" and (value := of(record, "intended")) is not None
        ]
        for name, records in by_class.items()
    }
    everything = [value for pairs in seen.values() for _, value in pairs]
    if not everything:
        return None

    def draw(axes: Any) -> None:
        _mark_time(axes, by_class, looks, warm_up)
        for name, pairs in seen.items():
            points(axes, pairs, looks[name], len(everything))
        scale(axes.yaxis, everything, texts.tick)
        axes.set_ylabel(label)

    return picture(title, draw)


def _in_flight(
    by_class: dict[str, list[Record]], looks: dict[str, Look], warm_up: float
) -> Picture:
    everything = [record for records in by_class.values() for record in records]
    times = np.linspace(
        min(record.dispatched for record in everything),
        max(record.ended for record in everything),
        LOOKS_IN_FLIGHT,
    )

    def draw(axes: Any) -> None:
        _mark_time(axes, by_class, looks, warm_up)
        for name, records in by_class.items():
            begun = np.sort([record.dispatched for record in records])
            ended = np.sort([record.ended for record in records])
            running = np.searchsorted(begun, times, "right") - np.searchsorted(ended, times)
            axes.plot(times, running, color=looks[name].color, drawstyle="steps-post")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
        axes.set_ylabel("requests in flight")

    return picture("Requests in flight", draw)
