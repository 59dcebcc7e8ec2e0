"""What all pictures have in common: their size, their axes, and how they get into the page.

Every picture is inline SVG with a single pair of axes, so that a narrow window can show one below
the other. Titles and legends are part of the page. Many points become a PNG within the SVG.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from longrope_loadtest.report.looks import Look

MANY = 1500  # more points than these become a PNG instead of SVG elements
WIDE = 20  # the ratio of greatest to least number from which on an axis is logarithmic
INCHES = (5.2, 3.1)
STEPS = (1, 2, 2.5, 5, 10)  # between ticks

# Placeholders for the page's own colours, which are different on a dark screen.
INK, FAINT = "#010203", "#040506"
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Picture:
    """A picture in the page, with the words above and below it."""

    title: str
    svg: Markup
    note: str = ""


def picture(title: str, draw: Callable[[Any], None], note: str = "") -> Picture:
    """The picture that `draw` draws on a pair of axes."""
    # The salt makes identifiers differ between the pictures of a page, and the same page get the
    # same identifiers every time.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=INCHES, layout="constrained")
        draw(figure.subplots())
        content = io.StringIO()
        figure.savefig(content, format="svg", dpi=216, transparent=True)
    return Picture(title, _for_page(content.getvalue(), title), note)


def points(axes: Any, pairs: Sequence[tuple[float, float]], look: Look, total: int) -> None:
    """Draw requests at their (x, y); `total` is the number of points in the whole picture."""
    few = total <= MANY
    axes.plot(
        [x for x, _ in pairs],
        [y for _, y in pairs],
        linestyle="",
        marker=look.marker,
        markersize=4 if few else 2.2,
        markeredgewidth=0,
        color=look.color,
        alpha=0.75 if few else 0.4,
        rasterized=not few,
    )


def scale(
    axis: Any, numbers: Sequence[float], tick: Callable[[float], str], *, from_zero: bool = True
) -> None:
    """Label the ticks of an axis, and make it logarithmic if `numbers` have a wide range.

    Otherwise it begins at zero, unless `from_zero` is false, so that small differences look small.

    Raises:
        ValueError: There are no numbers.
    """
    low, high = min(numbers), max(numbers)
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    if low <= 0 or high < WIDE * low:
        axis.set_major_locator(MaxNLocator(6, steps=STEPS))
        if from_zero:
            is_x = axis.axis_name == "x"
            (axis.axes.set_xlim if is_x else axis.axes.set_ylim)(0, 1.12 * high or 1)
        return
    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    if high < 3000 * low:
        room = 200 if axis.axis_name == "y" else 100  # labels are wider than they are high
        subs = (1, 2, 5) if high < room * low else (1, 3)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_formatter(NullFormatter())


def time_axis(axes: Any, end: float) -> None:
    """Make x the time of the run, from its start to `end` (seconds)."""
    axes.set_xlim(-0.02 * end, 1.02 * end)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=STEPS))
    axes.set_xlabel("time since the start (s)")


def _for_page(svg: str, title: str) -> Markup:
    """Remove what only a separate file needs: addresses of standards, names, its size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    label = Markup('role="img" aria-label="{}"').format(title)
    svg = re.sub(r"<svg[^>]*>", f"<svg {box[0]} {label}>", svg, count=1)
    return Markup(svg.replace(INK, "currentColor").replace(FAINT, "var(--grid)"))
