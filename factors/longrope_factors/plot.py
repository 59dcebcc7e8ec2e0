"""A plot of a factor file: its factors and wavelengths by dimension pair."""

from pathlib import Path

import numpy as np

from longrope_factors import figures
from longrope_factors.factor_file.schema import FactorFile
from longrope_factors.models.reference import frequencies


def draw(factor_file: FactorFile, path: Path) -> None:
    """Write a PNG with every set's factors above and its wavelengths in tokens below.

    A pair whose wavelength exceeds the original length (the dashed line) never completed a turn in
    training. An extension must interpolate these pairs.
    """
    pyplot = figures.pyplot()

    model = factor_file.model
    pairs = np.arange(model.rotary_dim // 2)
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(9, 8), layout="constrained"
    )
    colors = pyplot.get_cmap("viridis")(np.linspace(0, 0.85, len(factor_file.sets)))
    for factor_set, color in zip(factor_file.sets, colors, strict=True):
        factors = np.asarray(factor_set.factors)
        label = f"{factor_set.max_length:,} tokens ({factor_set.provenance.method})"
        above.plot(pairs, factors, color=color, label=label, marker=".", linewidth=1.2)
        wavelength = 2 * np.pi * factors / frequencies(model)
        below.plot(pairs, wavelength, color=color, marker=".", linewidth=1.2)
    above.set_title(model.name)
    above.set_ylabel("rescale factor")
    above.legend(title="max_length", fontsize="small")
    below.set_yscale("log")
    below.set_ylabel("wavelength (tokens)")
    below.set_xlabel("dimension pair")
    below.axhline(model.original_max_position_embeddings, color="gray", linestyle="--", linewidth=1)
    below.annotate(
        f"original length {model.original_max_position_embeddings:,}",
        (0, model.original_max_position_embeddings),
        xytext=(0, 4),
        textcoords="offset points",
        color="gray",
        fontsize="small",
    )
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figures.write(figure, path)
