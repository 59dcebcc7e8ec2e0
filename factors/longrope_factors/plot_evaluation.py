"""Pictures of evaluations: perplexity by length, loss along the text, passkeys by depth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longrope_factors import figures
from longrope_factors.evaluation import Evaluation
from longrope_factors.passkey import Retrieval

# Okabe and Ito's colours for the colour-blind, without their yellow, which is too faint for lines.
_COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
_MARKERS = "osD^vPX"


def draw_perplexity(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write a PNG with a row for each text, and in it a line for each method.

    To the left, perplexity by length; to the right, along the longest document.
    """
    corpora = _in_order(each.corpus for each in evaluations)
    names = _in_order(each.method for each in evaluations)
    looks = {name: _look(number, name) for number, name in enumerate(names)}
    pyplot = figures.pyplot()
    from matplotlib.ticker import LogLocator

    figure, rows = pyplot.subplots(
        len(corpora), 2, figsize=(11, 3.4 * len(corpora)), layout="constrained", squeeze=False
    )
    for corpus, (by_length, along) in zip(corpora, rows, strict=True):
        read = [each for each in evaluations if each.corpus == corpus]
        lengths = sorted({each.length for each in read})
        for name in names:
            line = sorted((each.length, each.perplexity) for each in read if each.method == name)
            by_length.plot(*zip(*line, strict=True), **looks[name])
        by_length.set_xscale("log", base=2)
        by_length.set_xticks(lengths, [f"{length:,}" for length in lengths])
        by_length.set(title=corpus, ylabel="perplexity", xlabel="document (tokens)", yscale="log")
        for each in read:
            if each.length == lengths[-1]:
                middles = (np.arange(len(each.curve)) + 0.5) * each.length / len(each.curve)
                style = {**looks[each.method], "marker": ""}
                along.plot(middles, np.exp(each.curve), linewidth=1.2, **style)
        along.set(title=f"{corpus}: along {lengths[-1]:,} tokens", xlabel="position (tokens)")
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
    names = _in_order(each.method for each in retrievals)
    lengths = sorted({each.length for each in retrievals})
    depths = sorted({each.depth for each in retrievals})
    pyplot = figures.pyplot()
    size = (2 + 0.8 * len(lengths) * len(names), 1.6 + 0.4 * len(depths))
    figure, row = pyplot.subplots(
        1, len(names), figsize=size, layout="constrained", squeeze=False, sharey=True
    )
    for name, axes in zip(names, row[0], strict=True):
        share = np.full((len(depths), len(lengths)), np.nan)
        for at, depth in enumerate(depths):
            for column, length in enumerate(lengths):
                found = [
                    each.found
                    for each in retrievals
                    if (each.method, each.length, each.depth) == (name, length, depth)
                ]
                share[at, column] = np.mean(found)
                axes.text(
                    *(column, at, f"{share[at, column]:.0%}"),
                    color="black" if share[at, column] > 0.5 else "white",
                    ha="center",
                    va="center",
                    fontsize="small",
                )
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=45)
        axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        axes.set(title=name, xlabel="length (tokens)")
    row[0][0].set_ylabel("depth of the key")
    figure.colorbar(image, ax=row[0].tolist(), label="keys found")
    figures.write(figure, path)


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
