"""Meaningless labels that are learnt from very many examples in the text.

The seed determines which kind of thing has which label. The examples of a kind are together, so
that its label has a depth, and only the label shows where a kind ends.
"""

from collections.abc import Sequence
from random import Random

from longrope_factors.evaluating.retrieval import words
from longrope_factors.evaluating.retrieval.documents import Asked, Document, Task, different
from longrope_factors.evaluating.retrieval.filler import Filler


def make(random: Random, units: int, depths: Sequence[float], filler: Filler) -> Document:
    """Make one example per unit, in as many kinds as there are depths, at most 16.

    Each kind begins with the thing that is asked for, so that it is in documents of any length.
    """
    kinds = random.sample(words.KINDS, min(len(depths), len(words.KINDS)))
    labels = different(len(kinds), lambda: words.invented(random))
    wanted = [random.choice(kind) for kind in kinds]
    examples: list[str] = []
    for kind, (things, thing, label) in enumerate(zip(kinds, wanted, labels, strict=True)):
        end = (kind + 1) * units // len(kinds)
        others = random.choices(things, k=end - len(examples) - 1)
        examples += [f"{example}: {label}" for example in [thing, *others]]
    asked = [
        Asked(
            f"\n\nWhich label does this have: {thing}?",
            f"{thing}:",
            (label,),
            (round((kind + 0.5) / len(kinds), 4),),
        )
        for kind, (thing, label) in enumerate(zip(wanted, labels, strict=True))
    ]
    head = "Things of the same kind have the same label. Learn the labels from these examples.\n\n"
    return Document(head + "\n".join(examples), tuple(asked))


MANY_SHOT = Task("many_shot", make, said=8)
