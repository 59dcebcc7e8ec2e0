"""A planned sequence as numbers: what one forward pass reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from longrope_factors.finetuning.documents import Tokens
from longrope_factors.finetuning.plan import Kind, Planned

# Of a passkey prompt's weight, this much lies on the key that is asked for. Its few tokens would
# else be one in thousands and teach nothing among filler.
ANSWER_SHARE = 0.1


@dataclass(frozen=True)
class Batch:
    """One sequence: arrays of shape [n]. Token i, at positions[i] of its document, predicts
    labels[i] with weights[i], which is 0 at the last token of each document.

    `answer` is where a passkey's answer is predicted, in indices of labels; empty without one.
    """

    kind: Kind
    token_ids: Tokens
    positions: Tokens
    labels: Tokens
    weights: np.ndarray[tuple[int], np.dtype[np.float32]]
    document_lengths: tuple[int, ...]
    answer: range = range(0)


def of_documents(kind: Kind, documents: Sequence[Tokens]) -> Batch:
    """Documents one after another: positions begin anew at each and none predicts the next."""
    token_ids = np.concatenate(documents)
    weights = np.ones(len(token_ids), np.float32)
    lengths = tuple(map(len, documents))
    weights[np.cumsum(lengths) - 1] = 0.0
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    return Batch(kind, token_ids, positions, np.roll(token_ids, -1), weights, lengths)


def passkey(tokenizer: Any, length: int, least: int, seed: Sequence[int]) -> Batch:
    """A passkey prompt with its answer, of more than `least` and at most `length` tokens.

    Length, depth and key are drawn by `seed`. The end-of-text token follows the key, so that the
    model learns where a key ends; the two have ANSWER_SHARE of the weight.
    """
    from longrope_factors import passkey as prompts

    generator = np.random.default_rng(seed)
    tokens = int(generator.integers(min(least + 1, length), length + 1))
    depth, key = float(generator.random()), int(generator.integers(1, prompts.GREATEST_KEY + 1))
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    ids, answer_start = prompts.prompt(tokenizer, tokens - len(end), depth, key)
    batch = of_documents("passkey", [np.asarray([*ids, *end], np.int32)])
    answer = range(answer_start - 1, len(batch.labels) - 1)
    ratio = ANSWER_SHARE / (1 - ANSWER_SHARE)
    batch.weights[answer.start : answer.stop] = answer.start * ratio / len(answer)
    return replace(batch, answer=answer)


def of(
    planned: Planned, documents: Sequence[Tokens], tokenizer: Any, length: int, least: int
) -> Batch:
    """The batch of a planned sequence; `length` and `least` bound a passkey prompt's tokens."""
    if planned.kind == "passkey":
        return passkey(tokenizer, length, least, planned.seed)
    return of_documents(
        planned.kind, [documents[each.document][each.start : each.end] for each in planned.spans]
    )
