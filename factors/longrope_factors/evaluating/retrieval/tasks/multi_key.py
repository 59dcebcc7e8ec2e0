"""Numbers of keys, among numbers of other keys and nothing else: RULER's niah_multikey_2."""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import niah, words
from longrope_factors.evaluating.retrieval.documents import (
    Document,
    Task,
    different,
    instead,
    unlike,
)
from longrope_factors.evaluating.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Make a document of needles; those at `depths` are asked for one by one."""
    keys = different(len(depths), lambda: words.pair(random))
    facts = [niah.Fact(key, words.number(random), d) for key, d in zip(keys, depths, strict=True)]

    def other() -> str:
        key = unlike(keys, lambda: words.pair(random))
        return niah.Fact(key, words.number(random), 0.0).needle

    needles = instead([fact.needle for fact in facts], depths, units, other)
    text = niah.text("\n".join(needles), of_one=True)
    return Document(text, tuple(niah.asked([fact]) for fact in facts))


MULTI_KEY = Task("multi_key", make, niah.SAID)
