"""Write a sweep as sweep.html: the curves, and a table of their points."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, PercentFormatter

from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.report import template, texts
from longrope_loadtest.report.drawing import Picture, picture, scale
from longrope_loadtest.report.looks import Look, looks_of
from longrope_loadtest.report.tables import Table
from longrope_loadtest.run.driving import Target
from longrope_loadtest.sweep.point import Point
from longrope_loadtest.text_files import writing

FILE = "sweep.html"
LATENCIES = (("TTFT", "ttft_intended"), ("TPOT", "tpot"), ("E2E", "e2e_intended"))
_Of = dict[str, Any]  # the figures of one class


def write(points: list[Point], profile: Profile, target: Target, directory: Path) -> Path:
    """Write sweep.html and return its path."""
    looks = looks_of(profile.classes)
    page = template.render(
        __package__,
        "page.html",
        source="longrope loadtest sweep",
        title=profile.description or "Sweep",
        facts=[("model", target.model), ("server", target.url)],
        looks=list(looks.values()),
        pictures=_pictures(points, looks),
        table=_table(points),
    )
    path = directory / FILE
    with writing(path):
        path.write_text(page, encoding="utf-8")
    return path


def _pictures(points: list[Point], looks: dict[str, Look]) -> list[Picture]:
    pictures = []
    for name, key in LATENCIES:
        drawn = _latency(name, key, points, looks)
        if drawn is not None:
            pictures.append(drawn)

    def draw_share(axes: Any) -> None:
        _curves(axes, points, looks, "-", lambda of: of["goodput"]["share_of_requests"])
        axes.set_ylim(-0.05, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))

    def draw_tokens(axes: Any) -> None:
        _curves(axes, points, looks, "-", lambda of: of["output_tokens_per_second"])
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: texts.short_count(value)))

    pictures.append(picture("Requests within the objectives", draw_share))
    pictures.append(picture("Output tokens/s", draw_tokens))
    return pictures


def _latency(name: str, key: str, points: list[Point], looks: dict[str, Look]) -> Picture | None:
    def at(percentile: str) -> Callable[[_Of], float | None]:
        return lambda of: (of["latency"][key] or {}).get(percentile)

    values = [
        value
        for point in points
        for of in point.figures.values()
        for percentile in ("p50", "p99")
        if (value := at(percentile)(of)) is not None
    ]
    if not values:
        return None

    def draw(axes: Any) -> None:
        for percentile, style in (("p50", "-"), ("p99", ":")):
            _curves(axes, points, looks, style, at(percentile))
        scale(axes.yaxis, values, texts.tick)

    return picture(f"{name} by rate", draw)


def _curves(
    axes: Any,
    points: list[Point],
    looks: dict[str, Look],
    style: str,
    of: Callable[[_Of], float | None],
) -> None:
    for name, look in looks.items():
        seen = [(point.rate, of(point.figures[name])) for point in points]
        known = [(rate, value) for rate, value in seen if value is not None]
        axes.plot(
            [rate for rate, _ in known],
            [value for _, value in known],
            style,
            color=look.color,
            marker=look.marker,
            markersize=5,
        )
    scale(axes.xaxis, [point.rate for point in points], texts.short_count)
    axes.set_xlabel("rate (requests/s)")


def _table(points: list[Point]) -> Table:
    head = ["class", "requests/s", "complete", "failed", "within objectives", "output tokens/s"]
    head += [f"{name} {at}" for name, _ in LATENCIES for at in ("p50", "p99")]
    rows = [
        [
            name,
            texts.rate(point.rate),
            texts.count(of["requests"]["complete"]),
            texts.count(of["requests"]["failed"]),
            texts.percent(of["goodput"]["share_of_requests"]),
            texts.rate(of["output_tokens_per_second"]),
            *(
                texts.duration((of["latency"][key] or {}).get(at))
                for _, key in LATENCIES
                for at in ("p50", "p99")
            ),
        ]
        for name in points[0].figures
        for point in points
        for of in [point.figures[name]]
    ]
    return Table(head, rows)
