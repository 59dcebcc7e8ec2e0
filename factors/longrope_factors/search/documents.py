"""What a candidate is measured on: windows of texts, whole or with needles to find."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning.data import skipping
from longrope_factors.models.texts import Text
from longrope_factors.search.settings import Objective

NEEDLES = 4
WINDOWS = 16  # short ones in place of a long one
_FACT = "\n\nThe magic number of {place} is {number}.\n\n"
_QUESTION = "\n\nWhat is the magic number of {place}? The magic number of {place} is"
_PLACES = ("Lisbon", "Cairo", "Lima", "Oslo", "Delhi", "Quito", "Hanoi", "Perth")


@dataclass(frozen=True)
class Document:
    """Tokens of one window, and which of them count.

    `scored` lists the places (from 1) whose tokens' losses count; None is all but the first.
    `positions`, where they are not consecutive, are those of each of the windows that the tokens
    are then parted into.
    """

    name: str
    token_ids: tuple[int, ...]
    scored: tuple[int, ...] | None = None
    positions: tuple[tuple[int, ...], ...] | None = None


def windows(texts: Sequence[Text], length: int, each: int) -> list[Document]:
    """The first window of `length` tokens of every text, then the second of every text, ...

    The `each` windows of a text are spread evenly over it and do not overlap. Raises UsageError
    naming the text that is too short for as many.
    """
    for text in texts:
        if (most := len(text.token_ids) // length) < each:
            raise UsageError(
                f"{text.name}: has {len(text.token_ids)} tokens, which is {most} windows of "
                f"{length}; {each} are asked for."
            )
    found = []
    for index in range(each):
        for text in texts:
            start = index * (len(text.token_ids) // each)
            found.append(
                Document(f"{text.name}@{start}", tuple(text.token_ids[start : start + length]))
            )
    return found


def with_needles(document: Document, tokenizer: Any, seed: int) -> Document:
    """The window with facts put in at random depths and asked for at the end.

    LongRoPE2's needle-driven perplexity (arXiv 2502.20082, section 3.2): only the tokens of the
    answers count. The window keeps its length; text at its end makes room.
    """
    rng = random.Random(f"{seed}-{document.name}")
    places = rng.sample(_PLACES, NEEDLES)
    numbers = [str(rng.randint(10_000, 99_999)) for _ in places]

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    facts = [
        tokens(_FACT.format(place=place, number=number))
        for place, number in zip(places, numbers, strict=True)
    ]
    ending: list[int] = []
    answers: list[int] = []
    for place, number in rng.sample(list(zip(places, numbers, strict=True)), NEEDLES):
        ending += tokens(_QUESTION.format(place=place))
        answer = tokens(f" {number}")
        answers += range(len(ending), len(ending) + len(answer))
        ending += answer
    room = len(document.token_ids) - len(ending) - sum(map(len, facts))
    if room < NEEDLES:
        raise UsageError(
            f"A window of {len(document.token_ids)} tokens is too short for {NEEDLES} needles: "
            f"--length should be at least {len(document.token_ids) - room + NEEDLES}."
        )
    depths = sorted(rng.randrange(room) for _ in facts)
    body: list[int] = []
    for fact, start, end in zip(facts, [0, *depths], depths, strict=False):
        body += document.token_ids[start:end]
        body += fact
    body += document.token_ids[depths[-1] : room]
    scored = tuple(len(body) + answer for answer in answers)
    return Document(document.name, tuple(body + ending), scored)


def skipping_to(length: int, document: Document, window: int, seed: int) -> Document:
    """The document's tokens as windows of `window`, each placed as if in a text of `length`.

    Positions are PoSE's (arXiv 2309.10400, section 3), as `finetune --positions skip` draws them.
    They are the same for every candidate, so that nothing but the rotation differs.
    """
    generator = np.random.default_rng((seed, zlib.crc32(document.name.encode())))
    positions = [
        tuple(skipping.positions(window, length, generator).tolist())
        for _ in range(len(document.token_ids) // window)
    ]
    return replace(document, positions=tuple(positions))


def prepared(
    texts: Sequence[Text], model_dir: Path, length: int, each: int, objective: Objective, seed: int
) -> list[Document]:
    """The documents of a search, in the order in which candidates meet them."""
    found = windows(texts, length, each)
    if objective == "perplexity":
        return found
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    return [with_needles(document, tokenizer, seed) for document in found]
