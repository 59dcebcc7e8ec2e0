"""Numbers of named lines, in the form of LongChat's line retrieval (Li et al., 2023)."""

from collections.abc import Sequence
from random import Random

from longrope_factors.retrieval import words
from longrope_factors.retrieval.documents import Asked, Document, Task, different, instead, unlike
from longrope_factors.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Every unit is a line with a number; those at `depths` are asked for, one by one."""
    names = different(len(depths), lambda: words.pair(random))
    numbers = different(len(depths), lambda: words.number(random))

    def other() -> str:
        return _line(unlike(names, lambda: words.pair(random)), words.number(random))

    lines = instead(list(map(_line, names, numbers)), depths, units, other)
    asked = [
        Asked(
            f"\n\nWhat is the REGISTER_CONTENT of line {name}?",
            f"The REGISTER_CONTENT of line {name} is",
            (number,),
            (depth,),
        )
        for name, number, depth in zip(names, numbers, depths, strict=True)
    ]
    head = "Below is a record of lines. Remember the REGISTER_CONTENT of every line.\n\n"
    return Document(head + "\n".join(lines), tuple(asked))


def _line(name: str, number: str) -> str:
    return f"line {name}: REGISTER_CONTENT is {number}"


LINES = Task("lines", make, said=16)
