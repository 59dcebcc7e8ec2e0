"""Values of keys in one long JSON object, as in Liu et al. (arXiv 2307.03172)."""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import words
from longrope_factors.evaluating.retrieval.documents import Document, Task, numbered
from longrope_factors.evaluating.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Make a document in which every unit is a pair; those at `depths` are asked for one by one."""
    pairs, asked = numbered(random, units, depths, words.invented, _pair, _ask)
    text = ",\n".join(pairs)
    head = "Here is a JSON object. You will be asked for the value of one of its keys.\n\n"
    return Document(f"{head}{{{text}}}", asked)


def _pair(key: str, value: str) -> str:
    return f'"{key}": {value}'


def _ask(key: str) -> tuple[str, str]:
    return (
        f'\n\nWhat is the value of the key "{key}" in the JSON object above?',
        f'The value of the key "{key}" is',
    )


KEY_VALUE = Task("key_value", make, said=16)
