"""The server's own metrics over the course of the run."""

from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from longrope_loadtest.report import texts
from longrope_loadtest.report.drawing import STEPS, Picture, picture, time_axis
from longrope_loadtest.report.looks import BLUE
from longrope_loadtest.run.scrape import Scrape

PANELS = 8
POINTS = 600  # the most points of a line
# vLLM's metrics in the order in which they are shown, with a plain title and their unit.
KNOWN = {
    "vllm:num_requests_running": ("Requests running", "requests"),
    "vllm:num_requests_waiting": ("Requests waiting", "requests"),
    "vllm:kv_cache_usage_perc": ("KV cache in use", "share (0 to 1)"),
    "vllm:prompt_tokens_total": ("Prompt tokens", "tokens/s"),
    "vllm:generation_tokens_total": ("Generated tokens", "tokens/s"),
    "vllm:prefix_cache_hits_total": ("Prompt tokens found in the prefix cache", "tokens/s"),
    "vllm:num_preemptions_total": ("Preemptions", "preemptions/s"),
}
# Metrics of the process and of Python, and parts of histograms: their sums say little over time.
_DULL_STARTS = ("python_", "process_")
_DULL_ENDS = ("_sum", "_count", "_info")


def chosen(scrapes: list[Scrape]) -> list[str]:
    """The metrics that changed during the run, the most informative first."""
    names = {name for scrape in scrapes for name in scrape.values}
    changed = [
        name
        for name in names
        if not name.startswith(_DULL_STARTS)
        and not name.endswith(_DULL_ENDS)
        and len({scrape.values[name] for scrape in scrapes if name in scrape.values}) > 1
    ]
    return sorted(changed, key=_rank)


def panels(scrapes: list[Scrape], began_at: float, names: list[str]) -> list[Picture]:
    """A picture for each metric in `names` that has a line; `began_at` is Unix time."""
    pictures = []
    for name in names:
        times, values = series(scrapes, began_at, name)
        if len(times) > 1:
            pictures.append(_panel(name, times, values))
    return pictures


def _rank(name: str) -> tuple[int, bool, str]:
    if name in KNOWN:
        return list(KNOWN).index(name), False, name
    ours = name.startswith("longrope_")
    return len(KNOWN) + (not ours), name.endswith("_total"), name


def series(
    scrapes: list[Scrape], began_at: float, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds and values of a metric; for a counter, its rate per second between two scrapes."""
    have = [scrape for scrape in scrapes if name in scrape.values]
    have = have[:: 1 + len(have) // POINTS]
    times = np.array([scrape.at - began_at for scrape in have])
    values = np.array([scrape.values[name] for scrape in have])
    if not name.endswith("_total"):
        return times, values
    steps = np.diff(values)
    grew = steps >= 0  # a counter falls if the server is restarted
    return times[1:][grew], (steps / np.diff(times))[grew]


def _panel(name: str, times: NDArray[np.float64], values: NDArray[np.float64]) -> Picture:
    title, unit = KNOWN.get(name, (name, _unit(name)))

    def draw(axes: Any) -> None:
        axes.plot(times, values, color=BLUE, drawstyle="steps-post")
        axes.fill_between(times, values, step="post", color=BLUE, alpha=0.15, linewidth=0)
        axes.set_ylim(bottom=min(0, values.min()))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: texts.short_count(value)))
        time_axis(axes, max(1, times[-1]))
        axes.set_ylabel(unit)

    return picture(title, draw, name if title != name else "")


def _unit(name: str) -> str:
    """The unit that a metric's name suggests."""
    stem = name.removesuffix("_total")
    for unit in ("tokens", "requests", "seconds", "bytes"):
        if unit in stem:
            return f"{unit}/s" if stem != name else unit
    return "per second" if stem != name else "value"
