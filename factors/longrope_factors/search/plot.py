"""A plot of a search: how it converged, and its factors beside those of the methods."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from longrope_factors import figures
from longrope_factors.factor_file import methods
from longrope_factors.factor_file.schema import FactorSet, ModelIdentity
from longrope_factors.search.evolving.evolution import Iteration


def draw(
    iterations: Sequence[Iteration], found: FactorSet, identity: ModelIdentity, path: Path
) -> None:
    """Write a PNG with the best perplexity by evaluations above, and the factors below."""
    pyplot = figures.pyplot()

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 8), layout="constrained")
    best = [np.exp(iteration.best.mean(len(iteration.best.losses))) for iteration in iterations]
    above.step([iteration.measured for iteration in iterations], best, where="post", marker=".")
    above.set_xlabel("evaluations (one candidate on one document)")
    above.set_ylabel("best perplexity")
    pairs = np.arange(identity.rotary_dim // 2)
    ratio = max(found.max_length / identity.original_max_position_embeddings, 1.0)
    for name in ("pi", "ntk", "yarn"):
        rescaling = methods.rescale(name, identity, ratio)
        below.plot(pairs, rescaling.factors, label=name, linewidth=1, linestyle="--")
    below.plot(pairs, found.factors, label="found", color="black", marker=".", linewidth=1.2)
    below.set_xlabel("dimension pair")
    below.set_ylabel(f"factor at {found.max_length:,} tokens")
    below.legend()
    for axis in (above, below):
        axis.grid(alpha=0.3)
    figures.write(figure, path)
