"""RULER's needles in a haystack, word for word (Hsieh et al., arXiv 2404.06654).

The wording and the composition are those of lm-eval's tasks niah_*, so that scores can be compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

from longrope_factors.evaluating.retrieval import documents
from longrope_factors.evaluating.retrieval.documents import Asked

SAID = 128  # tokens that lm-eval lets a model generate


class Fact(NamedTuple):
    """The number of a key, and its depth in the text."""

    key: str
    value: str
    depth: float

    @property
    def needle(self) -> str:
        """The sentence that states the fact."""
        return f"One of the special magic numbers for {self.key} is: {self.value}."


def text(context: str, of_one: bool) -> str:
    """The text before the question; `of_one` if the question asks for only one number."""
    if of_one:
        some, it = "A special magic number is", "number"
    else:
        some, it = "Some special magic numbers are", "numbers"
    return (
        f"{some} hidden within the following text. Make sure to memorize it. "
        f"I will quiz you about the {it} afterwards.\n{context}"
    )


def asked(facts: Sequence[Fact]) -> Asked:
    """The question for the values of `facts`, which must be all facts of their keys."""
    keys = list(dict.fromkeys(fact.key for fact in facts))
    query = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])}, and {keys[-1]}"
    if len(facts) == 1:
        what, are, numbers = "What is the", "is", "number"
    else:
        what, are, numbers = "What are all the", "are", "numbers"
    about = f"special magic {numbers} for {query} mentioned in the provided text"
    return Asked(
        f"\n{what} {about}?",
        f"The {about} {are}",
        tuple(fact.value for fact in facts),
        tuple(fact.depth for fact in facts),
    )


def placed(facts: Sequence[Fact], units: Sequence[str], joint: str) -> str:
    """The filler with the needles of `facts` in it."""
    return joint.join(
        documents.placed([fact.needle for fact in facts], [fact.depth for fact in facts], units)
    )
