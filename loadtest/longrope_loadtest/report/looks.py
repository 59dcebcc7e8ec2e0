"""How each class looks, the same in all pictures and legends."""

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's colours for the colour-blind, without yellow and black, which cannot be seen on a
# light or a dark page; their blue is a little lighter for the same reason.
BLUE, ORANGE = "#1A7FC1", "#D55E00"
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# matplotlib's name and the same shape as a character; 6 colours and 5 shapes make 30 looks.
MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"))


@dataclass(frozen=True)
class Look:
    """The look of one class."""

    name: str
    color: str
    marker: str
    letter: str


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """The looks of a profile's classes, assigned in their order."""
    return {
        name: Look(name, COLORS[number % len(COLORS)], *MARKERS[number % len(MARKERS)])
        for number, name in enumerate(names)
    }
