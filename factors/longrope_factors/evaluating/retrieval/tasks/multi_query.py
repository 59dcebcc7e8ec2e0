"""The numbers of four keys at once: RULER's niah_multiquery, with more keys in a text."""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import niah, words
from longrope_factors.evaluating.retrieval.documents import Document, Task, different
from longrope_factors.evaluating.retrieval.filler import Filler

_TOGETHER = 4


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Put a needle at each depth; each question asks for four of them, anywhere in the text."""
    keys = different(len(depths), lambda: words.pair(random))
    facts = [niah.Fact(key, words.number(random), d) for key, d in zip(keys, depths, strict=True)]
    order = random.sample(facts, len(facts))
    text = niah.placed(facts, filler.take(units, random), filler.joint)
    asked = [niah.asked(order[at : at + _TOGETHER]) for at in range(0, len(order), _TOGETHER)]
    return Document(niah.text(text, of_one=False), tuple(asked))


MULTI_QUERY = Task("multi_query", make, niah.SAID, group=_TOGETHER, reads_corpus=True)
