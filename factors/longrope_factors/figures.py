"""What all plots need from matplotlib."""

from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """matplotlib's pyplot with the backend that only writes files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def write(figure: Any, path: Path) -> None:
    """Write the figure as a PNG file and close it."""
    try:
        figure.savefig(path, dpi=120, format="png")
    finally:
        pyplot().close(figure)
