"""Plots of evaluations: perplexity by length and along the text, keys and facts by depth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longrope_factors import figures
from longrope_factors.evaluating.evaluation import Evaluation, text_names
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.retrieval.results import Asking

# Okabe and Ito's colours for the colour-blind, without their yellow, which is too faint for lines.
_COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
_MARKERS = "osD^vPX"


def draw_perplexity(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write a PNG with a row for each text and a line for each method.

    The left column shows perplexity by length, the right one along the longest document.
    """
    texts = text_names(evaluations)
    names = _in_order(evaluation.method for evaluation in evaluations)
    looks = {name: _look(number, name) for number, name in enumerate(names)}
    pyplot = figures.pyplot()
    from matplotlib.ticker import LogLocator

    figure, rows = pyplot.subplots(
        len(texts), 2, figsize=(11, 3.4 * len(texts)), layout="constrained", squeeze=False
    )
    for (sha256, text), (by_length, along) in zip(texts.items(), rows, strict=True):
        read = [evaluation for evaluation in evaluations if evaluation.corpus_sha256 == sha256]
        lengths = sorted({evaluation.length for evaluation in read})
        for name in names:
            line = sorted(
                (evaluation.length, evaluation.perplexity)
                for evaluation in read
                if evaluation.method == name
            )
            by_length.plot(*zip(*line, strict=True), **looks[name])
        by_length.set_xscale("log", base=2)
        by_length.set_xticks(lengths, [f"{length:,}" for length in lengths])
        by_length.set(title=text, ylabel="perplexity", xlabel="document (tokens)", yscale="log")
        for evaluation in read:
            if evaluation.length == lengths[-1]:
                curve = evaluation.curve
                middles = (np.arange(len(curve)) + 0.5) * evaluation.length / len(curve)
                style = {**looks[evaluation.method], "marker": ""}
                along.plot(middles, np.exp(curve), linewidth=1.2, **style)
        along.set(title=f"{text}: along {lengths[-1]:,} tokens", xlabel="position (tokens)")
        along.set(ylabel="perplexity there", yscale="log")
        for axes in (by_length, along):
            axes.grid(alpha=0.3, which="both")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
            axes.yaxis.set_minor_formatter("{x:g}")
    rows[0][0].legend(fontsize="small")
    figures.write(figure, path)


def draw_passkey(retrievals: Sequence[Retrieval], path: Path) -> None:
    """Write a PNG with a heat map for each method: the share of keys found, by length and depth."""
    maps = {
        (name, "keys"): [
            (retrieval.length, retrieval.depth, retrieval.found)
            for retrieval in retrievals
            if retrieval.method == name
        ]
        for name in _in_order(retrieval.method for retrieval in retrievals)
    }
    _draw_maps(maps, path)


def draw_retrieval(askings: Sequence[Asking], path: Path) -> None:
    """Write a PNG of heat maps, with a row for each method and a column for each task.

    A map shows the share of facts found, by the document's length and by the depth in it.
    """
    maps: dict[tuple[str, str], list[Found]] = {}
    for asking in askings:
        maps.setdefault((asking.task, asking.method), []).extend(
            (asking.length, depth, found)
            for answer in asking.answers
            for depth, found in zip(answer.depths, answer.found, strict=True)
        )
    _draw_maps(maps, path)


Found = tuple[int, float, bool]


def _draw_maps(maps: Mapping[tuple[str, str], Sequence[Found]], path: Path) -> None:
    """Draw the share found at each length and depth; a map's key names its column and row."""
    columns, rows = (_in_order(key[place] for key in maps) for place in (0, 1))
    lengths = sorted({length for facts in maps.values() for length, _, _ in facts})
    most = max(len({depth for _, depth, _ in facts}) for facts in maps.values())
    pyplot = figures.pyplot()
    width = 2 + max(0.8 * len(lengths) + 0.6, 1.6) * len(columns)
    figure, grid = pyplot.subplots(
        *(len(rows), len(columns)),
        figsize=(width, (1.6 + 0.4 * most) * len(rows)),
        layout="constrained",
        squeeze=False,
    )
    for row, axes_of_row in zip(rows, grid, strict=True):
        for column, axes in zip(columns, axes_of_row, strict=True):
            if (column, row) not in maps:
                axes.set_axis_off()
                continue
            image = _draw_map(axes, maps[column, row], lengths)
            axes.set(title=column, xlabel="length (tokens)")
        axes_of_row[0].set_ylabel(f"{row}\ndepth" if len(rows) > 1 else "depth")
    figure.colorbar(image, ax=grid.ravel().tolist(), label="found")
    figures.write(figure, path)


def _draw_map(axes: Any, facts: Sequence[Found], lengths: Sequence[int]) -> Any:
    depths = sorted({depth for _, depth, _ in facts})
    share = np.full((len(depths), len(lengths)), np.nan)
    for at, depth in enumerate(depths):
        for column, length in enumerate(lengths):
            outcomes = [found for *place, found in facts if place == [length, depth]]
            if not outcomes:
                continue
            share[at, column] = np.mean(outcomes)
            axes.text(
                *(column, at, f"{share[at, column]:.0%}"),
                color="black" if share[at, column] > 0.5 else "white",
                ha="center",
                va="center",
                fontsize="small",
            )
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=45)
    axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    return axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")


def _look(number: int, name: str) -> dict[str, Any]:
    turn, kind = divmod(number, len(_COLORS))
    look = {
        "color": _COLORS[kind],
        "marker": _MARKERS[kind],
        "linestyle": "-" if turn == 0 else "--",
    }
    return {**look, "markersize": 4, "label": name}


def _in_order(names: Any) -> list[str]:
    return list(dict.fromkeys(names))
