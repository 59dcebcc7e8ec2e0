"""What every picture needs of matplotlib."""

from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files only."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def write(figure: Any, path: Path) -> None:
    """Write the figure as a PNG, and let go of it."""
    try:
        figure.savefig(path, dpi=120, format="png")
    finally:
        pyplot().close(figure)
