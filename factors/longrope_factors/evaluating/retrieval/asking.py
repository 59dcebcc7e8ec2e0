"""Ask questions about one long context, which is read once for all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from longrope_factors.evaluating.retrieval.reading import Reading, reading
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models.loading import LoadedModel

# The most tokens of questions in one forward pass, and the most entries of its mask, which has one
# for each of these tokens and each token of the context.
_TOGETHER, _MASK = 1024, 2**28


@dataclass(frozen=True)
class Question:
    """The tokens of a question after the context, and those of its answer; at least one each.

    Greedy decoding generates up to `most` tokens after the question; it stops early if `is_enough`
    is true for the tokens so far. If `most` is 0, nothing is generated.
    """

    token_ids: Sequence[int]
    answer_ids: Sequence[int]
    most: int = 0
    is_enough: Callable[[Sequence[int]], bool] = lambda _: False


@dataclass(frozen=True)
class Said:
    """What a model said: `exact` if greedy decoding begins with exactly the answer's tokens.

    `next_id` is the likeliest token after the answer; it shows whether the answer ends there.
    `loss` is the answer's mean loss in nats per token. `said_ids` are the tokens from greedy
    decoding without an end-of-text token, none if `most` is 0.
    """

    exact: bool
    loss: float
    next_id: int
    said_ids: tuple[int, ...] = ()


def answers(
    loaded: LoadedModel,
    factor_set: FactorSet,
    context_ids: Sequence[int],
    questions: Sequence[Question],
    on_layer: Callable[[], None] | None = None,
) -> list[Said]:
    """Answers to `questions`, each as if only the context and that question had been read.

    `factor_set` should be the one that serves the context with the longest question. An adapter
    should already be in place, because the model is used as it is. While the context is read,
    `on_layer` is called as often as the model has layers. Raises UsageError as `reading.reading`
    does.
    """
    batches = list(_batches(questions, min(_TOGETHER, _MASK // len(context_ids))))
    room = max(sum(map(_tokens, batch)) for batch in batches)
    with reading(loaded, factor_set, context_ids, room, on_layer) as read:
        return [said for batch in batches for said in _answered(read, batch)]


def _tokens(question: Question) -> int:
    """The most tokens that a question may add to what was read."""
    return len(question.token_ids) + max(len(question.answer_ids), question.most)


def _batches(questions: Sequence[Question], together: int) -> Iterator[list[Question]]:
    batch: list[Question] = []
    for question in questions:
        if batch and sum(map(_tokens, [*batch, question])) > together:
            yield batch
            batch = []
        batch.append(question)
    yield batch


def _answered(read: Reading, questions: Sequence[Question]) -> list[Said]:
    forced = _forced(read, questions)
    read.forget()
    # An answer that is exact and enough need not be decoded: the result would be its tokens.
    known = {
        number: tuple(question.answer_ids)
        for number, (question, said) in enumerate(zip(questions, forced, strict=True))
        if said.exact and question.is_enough(question.answer_ids)
    }
    rest = [
        number for number, question in enumerate(questions) if question.most and number not in known
    ]
    decoded = _decoded(read, [questions[number] for number in rest]) if rest else []
    read.forget()
    known |= dict(zip(rest, decoded, strict=True))
    return [
        replace(said, said_ids=known.get(number, ())) if questions[number].most else said
        for number, said in enumerate(forced)
    ]


def _forced(read: Reading, questions: Sequence[Question]) -> list[Said]:
    """How likely the answers are, each token after the answer's tokens before it."""
    outcomes = []
    hidden = _read(read, [[*question.token_ids, *question.answer_ids] for question in questions])
    for question, states in zip(questions, hidden, strict=True):
        logits = read.head(states[len(question.token_ids) - 1 :]).float()
        answer = torch.tensor(list(question.answer_ids), device=logits.device)
        *likeliest, next_id = logits.argmax(dim=-1).tolist()
        loss = torch.nn.functional.cross_entropy(logits[:-1], answer).item()
        outcomes.append(Said(likeliest == answer.tolist(), loss, next_id))
    return outcomes


def _decoded(read: Reading, questions: Sequence[Question]) -> list[tuple[int, ...]]:
    """The tokens that greedy decoding generates after all questions, one token at a time."""
    said: list[list[int]] = [[] for _ in questions]
    ends = _ends(read.model)
    asked = list(range(len(questions)))
    last = [states[-1] for states in _read(read, [question.token_ids for question in questions])]
    while asked:
        likeliest = read.head(torch.stack(last)).float().argmax(dim=-1).tolist()
        going_on = []
        for branch, token in zip(asked, likeliest, strict=True):
            question = questions[branch]
            if token not in ends:
                said[branch].append(token)
                if len(said[branch]) < question.most and not question.is_enough(said[branch]):
                    going_on.append(branch)
        asked = going_on
        if asked:
            places = [
                (branch, len(questions[branch].token_ids) + len(said[branch]) - 1)
                for branch in asked
            ]
            last = list(read.go_on([said[branch][-1] for branch in asked], places))
    return [tuple(ids) for ids in said]


def _read(read: Reading, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, ...]:
    """The hidden states of each text, [n, d]; all texts are read in one forward pass."""
    places = [(branch, index) for branch, text in enumerate(texts) for index in range(len(text))]
    hidden = read.go_on([token for text in texts for token in text], places)
    return hidden.split([len(text) for text in texts])


def _ends(model: Any) -> set[int]:
    """The tokens that end a model's output."""
    ids = model.generation_config.eos_token_id
    return set(ids) if isinstance(ids, list) else {ids}
