"""The documents that candidates are measured on: windows of texts, with or without needles."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning.data import skipping
from longrope_factors.models import tokenizers
from longrope_factors.models.texts import Text
from longrope_factors.search.settings import Objective

NEEDLES = 4
WINDOWS = 16  # short windows that stand in for a long one
_FACT = "\n\nThe magic number of {place} is {number}.\n\n"
_QUESTION = "\n\nWhat is the magic number of {place}? The magic number of {place} is"
_PLACES = ("Lisbon", "Cairo", "Lima", "Oslo", "Delhi", "Quito", "Hanoi", "Perth")


@dataclass(frozen=True)
class Document:
    """The tokens of one window, and which of them count.

    `scored` lists the indices (from 1) of the tokens whose losses count; None means all but the
    first token. If `positions` is given, the tokens are split into short windows, and it has the
    positions of each one's tokens.
    """

    name: str
    token_ids: tuple[int, ...]
    scored: tuple[int, ...] | None = None
    positions: tuple[tuple[int, ...], ...] | None = None


def windows(texts: Sequence[Text], length: int, per_text: int) -> list[Document]:
    """The first window of `length` tokens of every text, then the second of every text, ...

    The `per_text` windows of a text are spread evenly over it and do not overlap. Raises
    UsageError, naming the text, if it is too short for that many windows.
    """
    for text in texts:
        if (most := len(text.token_ids) // length) < per_text:
            raise UsageError(
                f"{text.name}: has {len(text.token_ids)} tokens, which is {most} windows of "
                f"{length}; {per_text} are needed."
            )
    documents = []
    for index in range(per_text):
        for text in texts:
            start = index * (len(text.token_ids) // per_text)
            documents.append(
                Document(f"{text.name}@{start}", tuple(text.token_ids[start : start + length]))
            )
    return documents


def with_needles(document: Document, tokenizer: Any, seed: int) -> Document:
    """The window with facts inserted at random depths and questions about them at its end.

    LongRoPE2's needle-driven perplexity (arXiv 2502.20082, section 3.2): only the tokens of the
    answers count. The window keeps its length; text at its end is dropped to make room. Raises
    UsageError if the window is too short.
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
    """Split the document into windows of `window` tokens, at positions in a text of `length`.

    Positions skip as in PoSE (arXiv 2309.10400, section 3) and as in `finetune --positions skip`.
    They are the same for every candidate, so that only the rotation differs.
    """
    generator = np.random.default_rng((seed, zlib.crc32(document.name.encode())))
    positions = [
        tuple(skipping.positions(window, length, generator).tolist())
        for _ in range(len(document.token_ids) // window)
    ]
    return replace(document, positions=tuple(positions))


def prepared(
    texts: Sequence[Text],
    model_dir: Path,
    length: int,
    per_text: int,
    objective: Objective,
    seed: int,
) -> list[Document]:
    """The documents of a search, in the order in which candidates are measured on them."""
    documents = windows(texts, length, per_text)
    if objective == "perplexity":
        return documents
    tokenizer = tokenizers.of(model_dir)
    return [with_needles(document, tokenizer, seed) for document in documents]
