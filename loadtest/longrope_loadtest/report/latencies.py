"""Distributions of latencies, by class."""

from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from longrope_loadtest.report import texts
from longrope_loadtest.report.drawing import Picture, picture, scale
from longrope_loadtest.report.looks import Look
from longrope_loadtest.results.figures import values
from longrope_loadtest.run.record import Record

FLOOR = 1e-4  # seconds; less is due to the network, and a logarithmic axis has no zero
SHARES = np.linspace(0, 1, 401)  # a line has a point at each of these shares
_DOTTED = "Dotted: from the intended time. Where it leaves the line, requests were sent late."
_GAPS = "One value for each gap; gaps below 0.1 ms (tokens that came in one piece) as 0.1 ms."
_PICTURES = (
    ("Time to first token", "TTFT", "requests", "ttft", "ttft_intended", _DOTTED),
    ("Time per output token", "TPOT", "requests", "tpot", None, "One value for each request."),
    ("Time between tokens", "ITL", "gaps", "itl", None, _GAPS),
    ("Time to the last token", "E2E", "requests", "e2e", "e2e_intended", _DOTTED),
)


def distributions(by_class: dict[str, list[Record]], looks: dict[str, Look]) -> list[Picture]:
    """A cumulative distribution for each latency that any request has."""
    pictures = []
    for title, short, of, metric, intended, note in _PICTURES:
        solid = _lines(by_class, metric)
        if solid:
            dotted = _lines(by_class, intended) if intended else {}
            pictures.append(_cdf(title, short, of, solid, dotted, looks, note))
    return pictures


def _lines(by_class: dict[str, list[Record]], metric: str) -> dict[str, NDArray[np.float64]]:
    """The metric at each of SHARES, by class."""
    seen = {name: values(records, metric) for name, records in by_class.items()}
    return {
        name: np.quantile(np.maximum(numbers, FLOOR), SHARES, method="inverted_cdf")
        for name, numbers in seen.items()
        if numbers
    }


def _cdf(
    title: str,
    short: str,
    of: str,
    solid: dict[str, NDArray[np.float64]],
    dotted: dict[str, NDArray[np.float64]],
    looks: dict[str, Look],
    note: str,
) -> Picture:
    def draw(axes: Any) -> None:
        for lines, style in ((solid, "-"), (dotted, ":")):
            for name, line in lines.items():
                look = looks[name]
                axes.plot(
                    line,
                    SHARES,
                    style,
                    color=look.color,
                    marker=look.marker if style == "-" else "",
                    markersize=4.5,
                    markevery=(0.1, 0.25),
                )
        ends = [line[end] for line in (*solid.values(), *dotted.values()) for end in (0, -1)]
        scale(axes.xaxis, ends, texts.tick)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.set(xlabel=short, ylabel=f"{of} at or below")

    return picture(f"{title} ({short})", draw, note)
