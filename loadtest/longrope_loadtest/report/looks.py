"""How each class looks, in every picture and legend alike."""

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's colours for the colour-blind, without yellow and black, which a light or a dark
# page swallows; their blue is a little lighter for the same reason.
BLUE, ORANGE = "#1A7FC1", "#D55E00"
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# matplotlib's name and the same as a letter; 6 colours and 5 shapes make 30 different looks.
MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"))


@dataclass(frozen=True)
class Look:
    """Of one class."""

    name: str
    color: str
    marker: str
    letter: str


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """The looks of a profile's classes by their order."""
    return {
        name: Look(name, COLORS[number % len(COLORS)], *MARKERS[number % len(MARKERS)])
        for number, name in enumerate(names)
    }
