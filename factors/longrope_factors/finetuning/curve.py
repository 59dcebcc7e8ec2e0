"""A picture of a fine-tune: its losses, step by step."""

from collections.abc import Sequence
from pathlib import Path

from longrope_factors import figures
from longrope_factors.finetuning.journal import Step

_LABELS = {
    "long": "long text",
    "short": "short documents, original rotation",
    "passkey": "passkey answers",
    "retrieval": "answers to retrieval exercises",
}


def draw(steps: Sequence[Step], title: str, path: Path) -> None:
    """Write a PNG of the losses in nats a token, of each kind of sequence that there was."""
    pyplot = figures.pyplot()

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    colors = pyplot.get_cmap("viridis")([0.1, 0.4, 0.65, 0.9])
    for (kind, label), color in zip(_LABELS.items(), colors, strict=True):
        points = [(each.step, loss) for each in steps if (loss := getattr(each, kind)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, label=label, linewidth=1.2)
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figures.write(figure, path)
