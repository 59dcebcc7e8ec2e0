"""Values of keys in one long JSON object, as in Liu et al. (arXiv 2307.03172)."""

from collections.abc import Sequence
from random import Random

from longrope_factors.retrieval import words
from longrope_factors.retrieval.documents import Asked, Document, Task, different, instead, unlike
from longrope_factors.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Every unit is a pair; those at `depths` are asked for, one by one."""
    keys = different(len(depths), lambda: words.invented(random))
    values = different(len(depths), lambda: words.number(random))

    def other() -> str:
        return _pair(unlike(keys, lambda: words.invented(random)), words.number(random))

    pairs = instead(list(map(_pair, keys, values)), depths, units, other)
    asked = [
        Asked(
            f'\n\nWhat is the value of the key "{key}" in the JSON object above?',
            f'The value of the key "{key}" is',
            (value,),
            (depth,),
        )
        for key, value, depth in zip(keys, values, depths, strict=True)
    ]
    text = ",\n".join(pairs)
    head = "Here is a JSON object. You will be asked for the value of one of its keys.\n\n"
    return Document(f"{head}{{{text}}}", tuple(asked))


def _pair(key: str, value: str) -> str:
    return f'"{key}": {value}'


KEY_VALUE = Task("key_value", make, said=16)
