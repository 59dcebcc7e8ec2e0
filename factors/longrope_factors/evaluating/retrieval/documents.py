"""A long document with facts in it, and the questions about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from longrope_factors.evaluating.retrieval import words
from longrope_factors.evaluating.retrieval.filler import Filler


@dataclass(frozen=True)
class Asked:
    """One question about a document.

    `question` goes on from the document's text; `prefix` is how the answer begins, before the
    `answers`, which stand at `depths` of the document, 0 to 1.
    """

    question: str
    prefix: str
    answers: tuple[str, ...]
    depths: tuple[float, ...]


@dataclass(frozen=True)
class Document:
    """What a model reads, and what it is asked then."""

    text: str
    asked: tuple[Asked, ...]


class Make(Protocol):
    """Makes a document of `units` of filler with facts at `depths`.

    All that is drawn comes from `random`. Facts and questions are the same for any number of units,
    of which there should be one at least for each fact.
    """

    def __call__(
        self, random: Random, units: int, depths: Sequence[float], filler: Filler
    ) -> Document:
        """The document."""


@dataclass(frozen=True)
class Task:
    """One kind of document and question.

    Greedy decoding says up to `said` tokens, and an answer is found where it is among them,
    wherever (RULER's rule). A question asks for `group` facts; a document has several questions,
    unless it is `alone` with one fact. `reads_corpus` where the filler is a part of it.
    """

    name: str
    make: Make
    said: int
    group: int = 1
    alone: bool = False
    reads_corpus: bool = False


def placed(facts: Sequence[str], depths: Sequence[float], units: Sequence[str]) -> list[str]:
    """The units with each fact put in after the share of them that its depth says."""
    result = []
    start = 0
    for depth, fact in sorted(zip(depths, facts, strict=True), key=lambda each: each[0]):
        end = round(depth * len(units))
        result += [*units[start:end], fact]
        start = end
    return [*result, *units[start:]]


def instead(
    facts: Sequence[str], depths: Sequence[float], units: int, other: Callable[[], str]
) -> list[str]:
    """`units` facts, of which those at `depths` are `facts`, and the rest `other()` gives."""
    at = {round(depth * (units - 1)): fact for depth, fact in zip(depths, facts, strict=True)}
    return [at[index] if index in at else other() for index in range(units)]


def numbered(
    random: Random,
    units: int,
    depths: Sequence[float],
    name: Callable[[Random], str],
    line: Callable[[str, str], str],
    ask: Callable[[str], tuple[str, str]],
) -> tuple[list[str], tuple[Asked, ...]]:
    """`units` lines, each a name and its number, and questions about those at `depths`.

    `ask` gives the question for a name, and how its answer begins.
    """
    names = different(len(depths), lambda: name(random))
    numbers = different(len(depths), lambda: words.number(random))

    def other() -> str:
        return line(unlike(names, lambda: name(random)), words.number(random))

    lines = instead(list(map(line, names, numbers)), depths, units, other)
    asked = tuple(
        Asked(*ask(name), (number,), (depth,))
        for name, number, depth in zip(names, numbers, depths, strict=True)
    )
    return lines, asked


def unlike(taken: Sequence[str], draw: Callable[[], str]) -> str:
    """What `draw` gives, drawn again while it is one of `taken`."""
    while (drawn := draw()) in taken:
        pass
    return drawn


def different(count: int, draw: Callable[[], str]) -> list[str]:
    """`count` different draws."""
    found: list[str] = []
    while len(found) < count:
        found.append(unlike(found, draw))
    return found
