"""Variables that get their value from other variables, after RULER's variable tracking.

One text has several chains of assignments (Hsieh et al., arXiv 2404.06654, appendix B). The wording
is ours, and there is no example.
"""

import string
from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval.documents import Asked, Document, Task, different, placed
from longrope_factors.evaluating.retrieval.filler import Filler

_CHAIN = 5  # variables: four hops
_SAID = 48


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Put an assignment at each depth, in chains of five that run through the whole text."""
    names = different(len(depths), lambda: "".join(random.choices(string.ascii_uppercase, k=5)))
    chains = len(depths) // _CHAIN
    values = different(chains, lambda: str(random.randint(10_000, 99_999)))
    facts = [
        f"VAR {name} = {values[index] if index < chains else f'VAR {names[index - chains]}'}"
        for index, name in enumerate(names)
    ]
    text = filler.joint.join(
        placed([f"{fact}." for fact in facts], depths, filler.take(units, random))
    )
    asked = [
        Asked(
            f"\n\nQuestion: Which variables in the text have the value {value}, by their own "
            "assignment or through other variables?",
            f"Answer: The {_CHAIN} variables that have the value {value} are",
            tuple(names[chain::chains]),
            tuple(depths[chain::chains]),
        )
        for chain, value in enumerate(values)
    ]
    return Document(
        "Variables are assigned within the following text. Keep track of their values.\n\n" + text,
        tuple(asked),
    )


VARIABLE_TRACKING = Task("variable_tracking", make, _SAID, group=_CHAIN, reads_corpus=True)
