"""Prompts of a chosen length in tokens, without a tokenizer.

For the tokenizers of LLaMA 2 and Mistral (SentencePiece), Mistral NeMo (tekken) and SmolLM2 (byte
pairs), every word is one token together with the space before it. So N words are N tokens for
these, and about as many for others. The sentences around a passkey have the same number of tokens
for all of these. Every result has the server's own count.
"""

import functools
import hashlib
import importlib.resources
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from longrope_loadtest.profiles.planned import Planned
from longrope_loadtest.profiles.profile import Passkey, TokenIds, Words

OWN_WORDS = 8  # words of its own before a passkey's introduction, which all prompts share
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
FILLER_TOKENS = 24  # tokens of the five sentences together
PASSKEY = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What number is the pass key? The pass key is"
PASSKEY_TOKENS = 70  # tokens of all but the own words and the filler, one per digit


def text_of(planned: Planned, prompt: Words | Passkey, seed: int) -> str:
    """The text of a prompt: equal arguments give equal texts.

    Apart from shared prefixes and blocks, different prompts differ from the first word on.
    """
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


def messages_of(planned: Planned, seed: int) -> list[dict[str, str]]:
    """The messages that a turn adds: its own and, in a first turn, the system prompt before it."""
    own = {
        "role": "user",
        "content": _words(f"{seed}/words/{planned.number}", planned.message_tokens),
    }
    if planned.prefix is None:
        return [own]
    system = _words(f"{seed}/prefix/{planned.prefix}", planned.prefix_tokens)
    return [{"role": "system", "content": system}, own]


def token_ids_of(planned: Planned, prompt: TokenIds, seed: int) -> list[int]:
    """The token ids of a prompt: equal arguments give equal ids.

    Apart from shared prefixes and blocks, different prompts differ from the first id on.
    """
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
    """One number in a long, meaningless text, and a question about the number.

    The prompt is that of Mohtashami and Jaggi (arXiv 2305.16300), which LongRoPE uses (arXiv
    2402.13753), except for the first line, which has random words, and the question: when asked
    "What is the pass key?", a small chat model answers what pass keys are for.
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
    """`number` integers below `kinds`.

    numpy promises that a bit generator's stream never changes, but makes no such promise for
    distributions. The bias of the remainder (below 2**-40) does not matter.
    """
    stream = np.random.PCG64(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16]))
    return (stream.random_raw(number) % np.uint64(kinds)).astype(np.int64)


@functools.cache
def _word_list() -> tuple[str, ...]:
    file = importlib.resources.files(__package__) / "words.txt"
    return tuple(file.read_text(encoding="ascii").split())
