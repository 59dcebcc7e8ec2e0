"""The text between the facts of a document: sentences of books, or noise."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import texts

# RULER's noise, after Mohtashami and Jaggi (arXiv 2305.16300). A line of it is a unit.
_NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')])) (?=[\"'(]*[A-Z])")


@dataclass(frozen=True)
class Filler:
    """Units of text and what joins them: sentences of books with spaces, or lines of noise.

    `sha256` is that of the books; noise has none.
    """

    units: Sequence[str]
    joint: str
    sha256: str | None = None

    def take(self, count: int, random: Random) -> list[str]:
        """`count` units in order, starting at a random one; the first follows the last."""
        start = random.randrange(len(self.units))
        return list(islice(cycle(self.units), start, start + count))


NOISE = Filler((_NOISE,), "\n")


def of_books(paths: Sequence[Path]) -> Filler:
    """The sentences of the books at `paths`, one book after another; noise if there are none.

    Raises FactorFileError, naming the file, if it is not UTF-8, and UsageError if it is empty.
    """
    if not paths:
        return NOISE
    units: list[str] = []
    digests = []
    for path in paths:
        text, sha256 = texts.content(path)
        words = " ".join(text.split())
        sentences = [sentence for sentence in _SENTENCE_END.split(words) if sentence]
        if not sentences:
            raise UsageError(f"{path}: has no text.")
        units += sentences
        digests.append(sha256)
    return Filler(units, " ", hashlib.sha256("".join(digests).encode()).hexdigest())
