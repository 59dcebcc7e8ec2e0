"""What stands between the facts of a document: sentences of books, or of nothing."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import texts

# RULER's, after Mohtashami and Jaggi (arXiv 2305.16300): a line of it is a unit.
_NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')])) (?=[\"'(]*[A-Z])")


@dataclass(frozen=True)
class Filler:
    """Units of text, and what joins them: sentences of a book with spaces, or lines of noise.

    `sha256` is that of the books' bytes; noise has none.
    """

    units: Sequence[str]
    joint: str
    sha256: str | None = None

    def take(self, count: int, random: Random) -> list[str]:
        """`count` units in their order, from a random one on; after the last comes the first."""
        start = random.randrange(len(self.units))
        return list(islice(cycle(self.units), start, start + count))


NOISE = Filler((_NOISE,), "\n")


def of_books(paths: Sequence[Path]) -> Filler:
    """The sentences of the books at `paths`, one book after another; noise without any.

    Raises FactorFileError, naming the file, where it is not UTF-8, UsageError where it is empty.
    """
    if not paths:
        return NOISE
    units: list[str] = []
    digests = []
    for path in paths:
        text, sha256 = texts.content(path)
        found = [each for each in _SENTENCE_END.split(" ".join(text.split())) if each]
        if not found:
            raise UsageError(f"{path}: has no text.")
        units += found
        digests.append(sha256)
    return Filler(units, " ", hashlib.sha256("".join(digests).encode()).hexdigest())
