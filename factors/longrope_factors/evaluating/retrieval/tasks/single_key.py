"""One number in a long text: RULER's first and second needle in a haystack."""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import niah, words
from longrope_factors.evaluating.retrieval.documents import Document, Task
from longrope_factors.evaluating.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Put one needle at the one depth: niah_single_1 over noise, niah_single_2 over books."""
    facts = [niah.Fact(words.pair(random), words.number(random), depth) for depth in depths]
    text = niah.placed(facts, filler.take(units, random), filler.joint)
    return Document(niah.text(text, of_one=True), (niah.asked(facts),))


SINGLE_KEY = Task("single_key", make, niah.SAID, alone=True, reads_corpus=True)
