"""A planned sequence as numbers: what one forward pass reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from longrope_factors.finetuning.data import (exercises, skipping)
from longrope_factors.finetuning.data.documents import Tokens
from longrope_factors.finetuning.data.exercises import Exercise
from longrope_factors.finetuning.data.sequences import (Kind, Mixture, Planned)

# Of a passkey prompt's weight, this much lies on the key that is asked for. Its few tokens would
# else be one in thousands and teach nothing among filler.
PASSKEY_ANSWER_SHARE = 0.1
# Of an exercise's, at least this much lies on the answer: it is the lesson, and windows are short.
ANSWER_SHARE = 0.5
# A window is parted into exercises of this many tokens or more: short ones give more answers to
# learn from, long ones more to choose from.
_LEAST_TOKENS = 160


@dataclass(frozen=True)
class Batch:
    """One sequence: arrays of shape [n]. Token i, at positions[i] of its document, predicts
    labels[i] with weights[i], which is 0 at the last token of each document.

    `answers` is 1 where the token of an answer is predicted, and 0 everywhere in plain text.
    """

    kind: Kind
    token_ids: Tokens
    positions: Tokens
    labels: Tokens
    weights: npt.NDArray[np.float32]
    document_lengths: tuple[int, ...]
    answers: npt.NDArray[np.float32]

    @property
    def is_short(self) -> bool:
        """Whether the original rotation is its."""
        return self.kind == "short"

    @property
    def plain(self) -> npt.NDArray[np.bool_]:
        """Where [n] what is trained is plain text, and no answer."""
        return (self.weights > 0) & (self.answers == 0)

    @property
    def counted(self) -> npt.NDArray[np.float32]:
        """The weights [n] by which losses are averaged to be shown: of a prompt, its answers."""
        return self.answers if self.kind in ("passkey", "retrieval") else self.weights


def of_documents(
    kind: Kind, documents: Sequence[Tokens], positions: Sequence[Tokens] | None = None
) -> Batch:
    """Documents one after another, none of which predicts the next.

    Each has its own positions, which are consecutive from 0 where none are given.
    """
    token_ids = np.concatenate(documents)
    weights = np.ones(len(token_ids), np.float32)
    lengths = tuple(map(len, documents))
    weights[np.cumsum(lengths) - 1] = 0.0
    if positions is None:
        positions = [np.arange(length, dtype=np.int32) for length in lengths]
    return Batch(
        kind=kind,
        token_ids=token_ids,
        positions=np.concatenate(positions),
        labels=np.roll(token_ids, -1),
        weights=weights,
        document_lengths=lengths,
        answers=np.zeros_like(weights),
    )


def passkey(tokenizer: Any, length: int, least: int, seed: Sequence[int]) -> Batch:
    """A passkey prompt with its answer, of more than `least` and at most `length` tokens.

    Length, depth and key are drawn by `seed`. The end-of-text token follows the key, so that the
    model learns where a key ends; the two have PASSKEY_ANSWER_SHARE of the weight.
    """
    from longrope_factors.evaluating import passkey as prompts

    generator = np.random.default_rng(seed)
    tokens = int(generator.integers(min(least + 1, length), length + 1))
    depth, key = float(generator.random()), int(generator.integers(1, prompts.GREATEST_KEY + 1))
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    ids, answer_start = prompts.prompt(tokenizer, tokens - len(end), depth, key)
    batch = of_documents("passkey", [np.asarray([*ids, *end], np.int32)])
    batch.answers[answer_start - 1 : -1] = 1.0
    ratio = PASSKEY_ANSWER_SHARE / (1 - PASSKEY_ANSWER_SHARE)
    answer_weight = (answer_start - 1) * ratio / batch.answers.sum()
    return replace(batch, weights=np.where(batch.answers, answer_weight, batch.weights))


def of_exercises(made: Sequence[Exercise], positions: Sequence[Tokens]) -> Batch:
    """Exercises one after another, at `positions`.

    Trained are what is plain text and, with ANSWER_SHARE of the weight or more, the answers;
    questions and facts are made up, and nothing foretells them.
    """
    batch = of_documents("retrieval", [each.token_ids for each in made], positions)
    weights = np.zeros_like(batch.weights)
    start = 0
    for exercise in made:
        count = len(exercise.token_ids)
        # Token i predicts token i + 1.
        weights[start : start + count - 1] = exercise.plain[1:]
        answer = slice(start + exercise.answer_start - 1, start + count - 1)
        weight = count * ANSWER_SHARE / (1 - ANSWER_SHARE)
        weights[answer] = weight / (count - exercise.answer_start)
        batch.answers[answer] = 1.0
        start += count
    return replace(batch, weights=weights)


def retrieval(
    tokenizer: Any, documents: Sequence[Tokens], mixture: Mixture, planned: Planned
) -> Batch:
    """A real prompt of up to the length, or exercises that lie as if in texts of up to that."""
    generator = np.random.default_rng(planned.seed)
    length, original = mixture.length, mixture.short_length
    if planned.whole:
        tokens = skipping.extent(mixture.whole, original, generator)
        exercise = exercises.draw(tokenizer, documents, tokens, (*planned.seed, 0))
        made = of_exercises([exercise], [exercise.positions(0)])
        # Beside windows, an answer that ends many tokens counts as one that ends a window.
        scale = min(mixture.window / len(exercise.token_ids), 1.0)
        return replace(made, weights=made.weights * np.float32(scale))
    count = int(generator.integers(1, _most_exercises(mixture) + 1))
    parts, positions = [], []
    for place in range(count):
        budget = mixture.window // count
        exercise = exercises.draw(tokenizer, documents, budget, (*planned.seed, place))
        parts.append(exercise)
        positions.append(exercise.positions(skipping.extent(length, original, generator)))
    return of_exercises(parts, positions)


def least_exercise(mixture: Mixture) -> int:
    """The fewest tokens that an exercise of a run has to fit into."""
    if mixture.window < mixture.length:
        return mixture.window // _most_exercises(mixture)
    return min(mixture.short_length + 1, mixture.length)


def _most_exercises(mixture: Mixture) -> int:
    return max(mixture.window // _LEAST_TOKENS, 1)


def of(planned: Planned, documents: Sequence[Tokens], tokenizer: Any, mixture: Mixture) -> Batch:
    """The batch of a planned sequence; `documents` are the corpus's."""
    if planned.kind == "passkey":
        return passkey(tokenizer, mixture.length, mixture.short_length, planned.seed)
    if planned.kind == "retrieval":
        return retrieval(tokenizer, documents, mixture, planned)
    parts = [documents[span.document][span.start : span.end] for span in planned.spans]
    if planned.whole or planned.kind == "short":
        return of_documents(planned.kind, parts)
    generator = np.random.default_rng(planned.seed)
    positions = []
    for part in parts:
        extent = skipping.extent(mixture.length, mixture.short_length, generator)
        positions.append(skipping.positions(len(part), extent, generator))
    return of_documents(planned.kind, parts, positions)
