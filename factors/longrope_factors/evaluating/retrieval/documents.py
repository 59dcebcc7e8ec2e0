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

    `question` continues the document's text. `prefix` is the beginning of the answer, before the
    `answers`, which are at `depths` of the document, 0 to 1.
    """

    question: str
    prefix: str
    answers: tuple[str, ...]
    depths: tuple[float, ...]


@dataclass(frozen=True)
class Document:
    """A text that a model reads, and the questions about it."""

    text: str
    asked: tuple[Asked, ...]


class Make(Protocol):
    """Makes a document of `units` of filler with facts at `depths`.

    All random choices use `random`. Facts and questions are the same for any number of units, which
    should be at least the number of facts.
    """

    def __call__(
        self, random: Random, units: int, depths: Sequence[float], filler: Filler
    ) -> Document:
        """Make the document."""


@dataclass(frozen=True)
class Task:
    """One kind of document and question.

    Greedy decoding generates up to `said` tokens, and an answer is found if it is anywhere in them
    (RULER's rule). A question asks for `group` facts. A document has several questions, or one fact
    if it is `alone`. `reads_corpus` says whether the document contains filler.
    """

    name: str
    make: Make
    said: int
    group: int = 1
    alone: bool = False
    reads_corpus: bool = False


def placed(facts: Sequence[str], depths: Sequence[float], units: Sequence[str]) -> list[str]:
    """The units, with each fact inserted after the share of them that is its depth."""
    result = []
    start = 0
    for depth, fact in sorted(zip(depths, facts, strict=True), key=lambda pair: pair[0]):
        end = round(depth * len(units))
        result += [*units[start:end], fact]
        start = end
    return [*result, *units[start:]]


def instead(
    facts: Sequence[str], depths: Sequence[float], units: int, other: Callable[[], str]
) -> list[str]:
    """`units` facts: those at `depths`, which ascend, are `facts`; the others are `other()`."""
    at: dict[int, str] = {}
    for depth, fact in zip(depths, facts, strict=True):
        place = round(depth * (units - 1))
        at[place if place not in at else place + 1] = fact  # two halves may round to one place
    return [at[index] if index in at else other() for index in range(units)]


def numbered(
    random: Random,
    units: int,
    depths: Sequence[float],
    name: Callable[[Random], str],
    line: Callable[[str, str], str],
    ask: Callable[[str], tuple[str, str]],
) -> tuple[list[str], tuple[Asked, ...]]:
    """`units` lines, each with a name and its number, and questions about those at `depths`.

    `ask` returns the question for a name and the beginning of its answer.
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
    """The first result of `draw` that is not in `taken`."""
    while (drawn := draw()) in taken:
        pass
    return drawn


def different(count: int, draw: Callable[[], str]) -> list[str]:
    """`count` different draws."""
    draws: list[str] = []
    while len(draws) < count:
        draws.append(unlike(draws, draw))
    return draws
