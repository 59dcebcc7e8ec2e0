"""Prompts of a chosen length in tokens, without a tokenizer.

A prompt is of words that are one token each, with the space before them, to the tokenizers of
LLaMA 2 and Mistral (SentencePiece), Mistral NeMo (tekken) and SmolLM2 (byte pairs), so that N words
are N tokens to those and about as many to others. The server's own count is in each result.
"""

import functools
import hashlib
import importlib.resources

import numpy as np
from numpy.typing import NDArray

from longrope_loadtest.plan import Planned
from longrope_loadtest.profile import Passkey, TokenIds, Words
from longrope_loadtest.traces import BLOCK_TOKENS

PASSKEY = " Remember this: the pass key is {key}. {key} is the pass key."
QUESTION = "\n\nWhat is the pass key in the text above? The pass key is"
# Of both together, to be taken off a prompt's words; a digit a token is the most that they need.
PASSKEY_TOKENS = 42
OWN_WORDS = 16  # before a passkey, at any depth: a block of most prefix caches


def text_of(planned: Planned, prompt: Words | Passkey, seed: int) -> str:
    """The text of a prompt: the same for the same arguments, and else different from its start."""
    if isinstance(prompt, Passkey):
        return _passkey_text(planned, seed)
    own = _own_tokens(planned)
    parts = [
        *(_words(f"{seed}/block/{block}", BLOCK_TOKENS) for block in planned.blocks),
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
        *(_draws(f"{seed}/block/{block}", BLOCK_TOKENS, kinds) for block in planned.blocks),
        _draws(f"{seed}/prefix/{planned.prefix}", planned.prefix_tokens, kinds),
        _draws(f"{seed}/words/{planned.number}", _own_tokens(planned), kinds),
    ]
    ids: list[int] = (np.concatenate(parts)[: planned.prompt_tokens] + prompt.first).tolist()
    return ids


def _own_tokens(planned: Planned) -> int:
    shared = len(planned.blocks) * BLOCK_TOKENS + planned.prefix_tokens
    return max(0, planned.prompt_tokens - shared)


def _passkey_text(planned: Planned, seed: int) -> str:
    assert planned.passkey is not None
    words = max(OWN_WORDS, planned.prompt_tokens - PASSKEY_TOKENS)
    before = max(OWN_WORDS, round(words * planned.depth))  # no two prompts begin alike
    return (
        _words(f"{seed}/words/{planned.number}", before)
        + PASSKEY.format(key=planned.passkey)
        + " "
        + _words(f"{seed}/after/{planned.number}", words - before)
        + QUESTION
    )


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
    file = importlib.resources.files("longrope_loadtest") / "words.txt"
    return tuple(file.read_text(encoding="ascii").split())
