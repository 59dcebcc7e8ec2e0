"""Numbers of named lines, in the form of LongChat's line retrieval (Li et al., 2023)."""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import words
from longrope_factors.evaluating.retrieval.documents import Document, Task, numbered
from longrope_factors.evaluating.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Make a document of numbered lines; the numbers at `depths` are asked for one by one."""
    lines, asked = numbered(random, units, depths, words.pair, _line, _ask)
    head = "Below is a record of lines. Remember the REGISTER_CONTENT of every line.\n\n"
    return Document(head + "\n".join(lines), asked)


def _line(name: str, number: str) -> str:
    return f"line {name}: REGISTER_CONTENT is {number}"


def _ask(name: str) -> tuple[str, str]:
    return (
        f"\n\nWhat is the REGISTER_CONTENT of line {name}?",
        f"The REGISTER_CONTENT of line {name} is",
    )


LINES = Task("lines", make, said=16)
