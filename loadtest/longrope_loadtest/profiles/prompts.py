"""Prompts of a chosen length in tokens, without a tokenizer.

The words are one token each, with the space before them, to the tokenizers of LLaMA 2 and Mistral
(SentencePiece), Mistral NeMo (tekken) and SmolLM2 (byte pairs), so that N words are N tokens to
those and about as many to others. The sentences around a passkey are as many tokens to each of
these. The server's own count is in each result.
"""

import functools
import hashlib
import importlib.resources
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from longrope_loadtest.profiles.plan import Planned
from longrope_loadtest.profiles.profile import Passkey, TokenIds, Words

OWN_WORDS = 8  # before the introduction to a passkey, which is the same in every prompt
INTRODUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there."
)
FILLER = (
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
)
FILLER_TOKENS = 24  # of the five together
PASSKEY = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What number is the pass key? The pass key is"
PASSKEY_TOKENS = 70  # of all but the own words and the filler, a digit a token


def text_of(planned: Planned, prompt: Words | Passkey, seed: int) -> str:
    """The text of a prompt: the same for the same arguments, and else different from its start."""
    if isinstance(prompt, Passkey):
        return _passkey_text(planned, seed)
    own = _own_tokens(planned)
    parts = [
        *(_words(f"{seed}/block/{block}", planned.block_tokens) for block in planned.blocks),
        _words(f"{seed}/prefix/{planned.prefix}", planned.prefix_tokens),
        _words(f"{seed}/words/{planned.number}", own),
    ]
    text = " ".join(part for part in parts if part)
    if planned.blocks:
        text = " ".join(text.split(" ")[: planned.prompt_tokens])
    return text + prompt.ending


def token_ids_of(planned: Planned, prompt: TokenIds, seed: int) -> list[int]:
    """The ids of a prompt: the same for the same arguments, and else different from the start."""
    kinds = prompt.last - prompt.first + 1
    parts = [
        *(_draws(f"{seed}/block/{block}", planned.block_tokens, kinds) for block in planned.blocks),
        _draws(f"{seed}/prefix/{planned.prefix}", planned.prefix_tokens, kinds),
        _draws(f"{seed}/words/{planned.number}", _own_tokens(planned), kinds),
    ]
    ids: list[int] = (np.concatenate(parts)[: planned.prompt_tokens] + prompt.first).tolist()
    return ids


def _own_tokens(planned: Planned) -> int:
    shared = len(planned.blocks) * planned.block_tokens + planned.prefix_tokens
    return max(0, planned.prompt_tokens - shared)


def _passkey_text(planned: Planned, seed: int) -> str:
    """One number in a long text about nothing, and the question what it was.

    The prompt is Mohtashami and Jaggi's (arXiv 2305.16300), which LongRoPE uses (arXiv 2402.13753),
    but for the first line, of random words, and the question: to their "What is the pass key?" a
    small chat model answers what pass keys are for.
    """
    assert planned.passkey is not None
    room = max(0, planned.prompt_tokens - PASSKEY_TOKENS - OWN_WORDS)
    sentences = room * len(FILLER) // FILLER_TOKENS
    left = room - sentences * FILLER_TOKENS // len(FILLER)  # too short for a sentence
    filler = list(islice(cycle(FILLER), sentences))
    before = round(sentences * planned.depth)
    parts = (
        _words(f"{seed}/words/{planned.number}", OWN_WORDS + left),
        INTRODUCTION,
        " ".join(filler[:before]),
        PASSKEY.format(key=planned.passkey),
        " ".join(filler[before:]),
        QUESTION,
    )
    return "\n".join(part for part in parts if part)


def _words(seed: str, number: int) -> str:
    words = _word_list()
    return " ".join(words[index] for index in _draws(seed, number, len(words)).tolist())


def _draws(seed: str, number: int, kinds: int) -> NDArray[np.int64]:
    """`number` integers below `kinds`. numpy promises that a bit generator's stream never changes,
    and does not promise it for distributions; the remainder's bias (below 2**-40) is no matter."""
    stream = np.random.PCG64(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16]))
    return (stream.random_raw(number) % np.uint64(kinds)).astype(np.int64)


@functools.cache
def _word_list() -> tuple[str, ...]:
    file = importlib.resources.files(__package__) / "words.txt"
    return tuple(file.read_text(encoding="ascii").split())
