"""A plot of a fine-tune: its losses, step by step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from longrope_factors import figures
from longrope_factors.finetuning.journal import Step

_LABELS = {
    "long": "long text",
    "short": "short documents, original rotation",
    "passkey": "passkey answers",
    "retrieval": "answers to retrieval exercises",
    "held_out": "answers to held-out questions",
}


def draw(steps: Sequence[Step], title: str, path: Path) -> None:
    """Write a PNG of the losses, in nats per token, of every kind of sequence that was trained on.

    If there were checks, the right axis shows the share of held-out questions that were answered.
    """
    pyplot = figures.pyplot()

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    colors = pyplot.get_cmap("viridis")(np.linspace(0.05, 0.95, len(_LABELS)))
    for (kind, label), color in zip(_LABELS.items(), colors, strict=True):
        points = [(step.step, loss) for step in steps if (loss := getattr(step, kind)) is not None]
        if points:
            marker = "o" if kind == "held_out" else ""
            axes.plot(
                *zip(*points, strict=True), color=color, label=label, linewidth=1.2, marker=marker
            )
    shares = [(step.step, step.found) for step in steps if step.found is not None]
    if shares:
        right = axes.twinx()
        right.plot(*zip(*shares, strict=True), "ks--", linewidth=0.8, markersize=4)
        right.set_ylabel("held-out questions answered exactly (squares)")
        right.set_ylim(-0.02, 1.02)
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figures.write(figure, path)
