"""A point of the curves."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """The figures of the run at one rate, in requests (or conversations) per second."""

    rate: float
    directory: str
    figures: dict[str, Any]
