"""All four numbers of a key: RULER's niah_multivalue, with more keys in a text."""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import niah, words
from longrope_factors.evaluating.retrieval.documents import Document, Task, different
from longrope_factors.evaluating.retrieval.filler import Filler

_VALUES = 4


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Put a needle at each depth, four for each key; the keys are asked for one by one."""
    keys = different(len(depths) // _VALUES, lambda: words.pair(random))
    shuffled = random.sample(keys * _VALUES, len(depths))
    values = different(len(depths), lambda: words.number(random))
    facts = [
        niah.Fact(key, value, depth)
        for key, value, depth in zip(shuffled, values, depths, strict=True)
    ]
    text = niah.placed(facts, filler.take(units, random), filler.joint)
    asked = [niah.asked([fact for fact in facts if fact.key == key]) for key in keys]
    return Document(niah.text(text, of_one=False), tuple(asked))


MULTI_VALUE = Task("multi_value", make, niah.SAID, group=_VALUES, reads_corpus=True)
