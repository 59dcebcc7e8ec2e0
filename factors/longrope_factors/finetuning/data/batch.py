"""A planned sequence as the arrays that a forward pass reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from longrope_factors.finetuning.data import exercises, skipping
from longrope_factors.finetuning.data.documents import Tokens
from longrope_factors.finetuning.data.exercises import Exercise
from longrope_factors.finetuning.data.sequences import Kind, Mixture, Planned

# The share of a passkey prompt's weight that is on the key. Without it, the key's few tokens would
# teach nothing among thousands of tokens of filler.
PASSKEY_ANSWER_SHARE = 0.1
# The least share of an exercise's weight that is on the answer, which is what should be learnt.
ANSWER_SHARE = 0.5
# The fewest tokens of an exercise in a window.
_LEAST_TOKENS = 160


@dataclass(frozen=True)
class Batch:
    """One sequence, as arrays of shape [n].

    Token i, at positions[i] of its document, predicts labels[i] with weights[i], which is 0 at the
    last token of each document. `answers` is 1 if a token of an answer is predicted, and 0
    everywhere in plain text.
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
        """Whether it is trained under the original rotation."""
        return self.kind == "short"

    @property
    def plain(self) -> npt.NDArray[np.bool_]:
        """Which tokens [n] are trained to predict plain text and not an answer."""
        return (self.weights > 0) & (self.answers == 0)

    @property
    def counted(self) -> npt.NDArray[np.float32]:
        """The weights [n] of the average loss that is reported; in a prompt, only answers count."""
        return self.answers if self.kind in ("passkey", "retrieval") else self.weights


def of_documents(
    kind: Kind, documents: Sequence[Tokens], positions: Sequence[Tokens] | None = None
) -> Batch:
    """Documents one after another; no document's last token predicts the next document.

    Each document has its own positions, consecutive from 0 if none are given.
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

    Length, depth and key are drawn with `seed`. The end-of-text token follows the key, so that the
    model learns where a key ends. Key and end have PASSKEY_ANSWER_SHARE of the weight.
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

    Plain text is trained, and answers with at least ANSWER_SHARE of the weight of each exercise.
    Questions and facts are not, because they are made up and cannot be predicted.
    """
    batch = of_documents("retrieval", [exercise.token_ids for exercise in made], positions)
    weights = np.zeros_like(batch.weights)
    start = 0
    for exercise in made:
        count = len(exercise.token_ids)
        # Token i predicts token i + 1.
        weights[start : start + count - 1] = exercise.plain[1:]
        answers = start + np.flatnonzero(exercise.answers[1:])
        weights[answers] = count * ANSWER_SHARE / (1 - ANSWER_SHARE) / len(answers)
        batch.answers[answers] = 1.0
        start += count
    return replace(batch, weights=weights)


def retrieval(
    tokenizer: Any, documents: Sequence[Tokens], mixture: Mixture, planned: Planned
) -> Batch:
    """One whole prompt, or exercises in a window whose positions span texts of up to the length."""
    generator = np.random.default_rng(planned.seed)
    length, original = mixture.length, mixture.short_length
    if planned.whole:
        tokens = skipping.extent(mixture.whole, original, generator)
        exercise = exercises.draw(tokenizer, documents, tokens, (*planned.seed, 0))
        made = of_exercises([exercise], [exercise.positions(0)])
        # The answer's weight grows with the prompt; scaled, it is that of an answer in a window.
        scale = min(mixture.window / len(exercise.token_ids), 1.0)
        return replace(made, weights=made.weights * np.float32(scale))
    # The logarithm is spread evenly, because a long exercise teaches most: it has most questions,
    # and most facts to choose from.
    count = int(np.exp(generator.uniform(0, np.log(_most_exercises(mixture) + 1))))
    parts, positions = [], []
    for place in range(count):
        budget = mixture.window // count
        exercise = exercises.draw(tokenizer, documents, budget, (*planned.seed, place))
        parts.append(exercise)
        positions.append(exercise.positions(skipping.extent(length, original, generator)))
    return of_exercises(parts, positions)


def least_exercise(mixture: Mixture) -> int:
    """The fewest tokens that an exercise of the run must fit into."""
    if mixture.window < mixture.length:
        return mixture.window // _most_exercises(mixture)
    return min(mixture.short_length + 1, mixture.length)


def _most_exercises(mixture: Mixture) -> int:
    return max(mixture.window // _LEAST_TOKENS, 1)


def made(planned: Planned, documents: Sequence[Tokens], tokenizer: Any, mixture: Mixture) -> Batch:
    """The batch of a planned sequence; `documents` are those of the corpus."""
    if planned.kind == "passkey":
        return passkey(tokenizer, mixture.length, mixture.short_length, planned.seed)
    if planned.kind == "retrieval":
        return retrieval(tokenizer, documents, mixture, planned)
    parts = [documents[span.document][span.start : span.end] for span in planned.spans]
    if planned.whole or planned.kind == "short":
        return of_documents(planned.kind, parts)
    generator = np.random.default_rng(planned.seed)
    if mixture.gapless and generator.random() < mixture.gapless:
        return of_documents(planned.kind, parts)
    positions = []
    for part in parts:
        extent = skipping.extent(mixture.length, mixture.short_length, generator)
        positions.append(skipping.positions(len(part), extent, generator))
    return of_documents(planned.kind, parts, positions)
