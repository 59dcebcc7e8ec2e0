"""Retrieval exercises: a passage of a real book, facts placed in it, questions and their answers.

The tasks that `questions` draws are laid out as a chat or as plain text and fitted to a number of
tokens. Several questions about a document follow one another, as they do in a conversation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning.data import questions, wordings
from longrope_factors.finetuning.data.documents import Tokens
from longrope_factors.finetuning.data.questions import Draw, Task
from longrope_factors.models import tokenizers

_DOCUMENT = "\N{LEFT WHITE SQUARE BRACKET}document\N{RIGHT WHITE SQUARE BRACKET}"
_ANSWER = "\N{LEFT WHITE SQUARE BRACKET}answer\N{RIGHT WHITE SQUARE BRACKET}"
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+")
# A list is split into at most this many runs; its positions may jump between them.
_RUNS = 8
# A longer list would need more names than there are.
_LONGEST_LIST = 2000
_ATTEMPTS = 50


@dataclass(frozen=True)
class Exercise:
    """One exercise of n tokens; arrays of shape [n].

    `depths` rise from 0 to 1. They say where the tokens are in a long text from which everything
    between tokens of different depth was left out. They are 0 before the document and 1 after it.
    `plain` marks the tokens that are trained as plain text: those of the book, and the beginnings
    of the sentences that answers complete. `answers` marks the tokens of answers, with the token
    that ends the last one, and in a chat each.
    """

    kind: str
    token_ids: Tokens
    depths: npt.NDArray[np.float64]
    plain: npt.NDArray[np.bool_]
    answers: npt.NDArray[np.bool_]

    def positions(self, extent: int) -> Tokens:
        """Ascending positions [n] that spread the exercise over a text of `extent` tokens."""
        count = len(self.token_ids)
        shifts = np.floor(self.depths * max(extent - count, 0))
        return (np.arange(count) + shifts).astype(np.int32)


class _Block(NamedTuple):
    """Characters that stay together, at one depth; `plain` and `answer` are as in Exercise."""

    text: str
    depth: float
    plain: bool = False
    answer: bool = False


class _Layout(NamedTuple):
    """What surrounds a document: the text before it, and questions and answers after it.

    `end` has the tokens that end an answer.
    """

    head: str
    after: list[_Block]
    end: list[int]
    is_chat: bool


def draw(tokenizer: Any, documents: Sequence[Tokens], budget: int, seed: Sequence[int]) -> Exercise:
    """An exercise of at most `budget` tokens, with as much of a book as fits.

    The book's passage comes from one of `documents`. Raises UsageError if no exercise fits.
    """
    for attempt in range(_ATTEMPTS):
        # A small budget has no room for some kinds, or for the longest wordings.
        exercise = _Sketch(tokenizer, documents, budget, (*seed, attempt)).filled()
        if exercise is not None:
            return exercise
    raise UsageError(
        f"A retrieval exercise does not fit into {budget} tokens: --window should be greater, or "
        "--retrieval-share left out."
    )


class _Sketch:
    """An exercise before its size is known; the seed determines everything else."""

    def __init__(
        self, tokenizer: Any, documents: Sequence[Tokens], budget: int, seed: tuple[int, ...]
    ) -> None:
        generator = np.random.default_rng((*seed, 0))
        self._tokenizer, self._budget, self._seed = tokenizer, budget, seed
        self._kind = questions.draw_name(generator)
        self._depth = generator.random()
        self._list_share = 0.25 if generator.random() < 1 / 3 else 1.0
        lengths = np.asarray([len(document) for document in documents], np.float64)
        self._book = documents[int(generator.choice(len(documents), p=lengths / lengths.sum()))]
        self._start = int(generator.random() * max(len(self._book) - budget, 0))

    def filled(self) -> Exercise | None:
        """The exercise with as many facts and as much of the book as fit; None if none fits."""
        count, room = 0, self._budget
        if self._kind != questions.QUOTE:
            count, shortest = self._fewest()
            room -= shortest
        while room >= 0:
            exercise = self._made(count, room)
            if exercise is None:
                return None
            over = len(exercise.token_ids) - self._budget
            if over <= 0:
                return exercise
            if room == 0:
                return None
            room = max(room - over, 0)
        return None

    def _fewest(self) -> tuple[int, int]:
        """The number of facts, and the tokens that they need without any of the book."""
        kind = questions.KINDS[self._kind]
        if kind.most is not None:
            count = int(np.random.default_rng((*self._seed, 1)).integers(kind.least, kind.most + 1))
        else:
            few, more = (self._tokens(number) for number in (kind.least, kind.least + 8))
            room = self._list_share * self._budget - few
            count = kind.least + int(max(room, 0) / max((more - few) / 8, 1))
            count = min(count, _LONGEST_LIST)
        tokens = self._tokens(count)
        while tokens > self._budget and count > kind.least:
            count = max(kind.least, count * 9 // 10)
            tokens = self._tokens(count)
        return count, tokens

    def _tokens(self, count: int) -> int:
        exercise = self._made(count, 0)
        assert exercise is not None
        return len(exercise.token_ids)

    def _made(self, count: int, room: int) -> Exercise | None:
        """The exercise with `count` facts and `room` tokens of the book."""
        tokens = self._book[self._start : self._start + room]
        # Without the token that begins a document: it does not stand in the middle of a prompt.
        passage = self._tokenizer.decode(tokens, skip_special_tokens=True)
        passage = passage.strip("\N{REPLACEMENT CHARACTER} \n")
        generator = np.random.default_rng((*self._seed, 2))
        if self._kind == questions.QUOTE:
            quotation = questions.quotation(generator, passage, self._depth)
            if quotation is None:
                return None
            start, end, task = quotation
            fillers, runs = [passage[:start], passage[end:]], [passage[start:end]]
            blocks = _blocks(fillers, runs, [self._depth], "", "", plain=True)
        else:
            task = questions.KINDS[self._kind].make(generator, count)
            blocks = _placed(generator, passage, task)
        layout = _layout(generator, self._tokenizer, task)
        return _encoded(self._tokenizer, self._kind, layout, blocks)


def _placed(generator: Draw, passage: str, task: Task) -> list[_Block]:
    """Place the facts in the passage: a list in one place, others anywhere, at uniform depths."""
    if task.joiner is None:
        depths = np.sort(generator.random(len(task.facts))).tolist()
        # If sentences are long, a cut may come before the cut of a smaller depth.
        cuts = list(accumulate((_cut(passage, depth) for depth in depths), max, initial=0))
        cuts.append(len(passage))
        fillers = [passage[start:end].strip() for start, end in pairwise(cuts)]
        between = str(generator.choice((" ", "\n\n")))
        return _blocks(fillers, task.facts, depths, between, between)
    count = int(generator.integers(1, min(_RUNS, len(task.facts)) + 1))
    starts = [0, *np.sort(generator.permutation(len(task.facts) - 1)[: count - 1] + 1).tolist()]
    ends = [*starts[1:], len(task.facts)]
    runs = [
        task.joiner.join(task.facts[start:end]) for start, end in zip(starts, ends, strict=True)
    ]
    depths = np.sort(generator.random(count)).tolist()
    cut = _cut(passage, depths[0])
    fillers = [passage[:cut].strip(), *[""] * (count - 1), passage[cut:].strip()]
    return _blocks(fillers, runs, depths, task.joiner, "\n\n")


def _blocks(
    fillers: Sequence[str],
    runs: Sequence[str],
    depths: Sequence[float],
    between_runs: str,
    around: str,
    plain: bool = False,
) -> list[_Block]:
    """Fillers and runs in turn. The depth changes in the middle of a filler, not beside a run.

    `plain` says whether the runs come from the book too.
    """
    blocks: list[_Block] = []
    previous, after_run = 0.0, False
    for place, text in enumerate(fillers):
        depth = depths[place] if place < len(depths) else 1.0
        if text:
            middle = text.rfind(" ", 0, len(text) // 2 + 1)
            blocks.append(
                _Block((around if after_run else "") + text[: max(middle, 0)], previous, True)
            )
            blocks.append(_Block(text[max(middle, 0) :], depth, True))
        if place < len(runs):
            joint = around if text else between_runs if after_run else ""
            blocks.append(_Block(joint + runs[place], depth, plain))
        previous, after_run = depth, True
    return blocks


def _cut(passage: str, depth: float) -> int:
    """Where to cut a passage near `depth`: after a sentence, else at a space."""
    wanted = round(depth * len(passage))
    sentence_end = _SENTENCE_END.search(passage, wanted, wanted + 300)
    if sentence_end is not None:
        return sentence_end.end()
    return max(passage.rfind(" ", 0, wanted), 0)


def _layout(generator: Draw, tokenizer: Any, task: Task) -> _Layout:
    chat = tokenizer.chat_template is not None and generator.random() < 0.5
    hint, is_cloze = generator.random(), not chat and generator.random() < 0.5
    in_sentence, wish = not is_cloze and hint < 0.3, ""
    if in_sentence:
        wish = " " + _one(generator, wordings.SENTENCE)
    elif not is_cloze and hint < 0.7:
        wish = " " + _one(generator, wordings.BARE)
    if chat:
        text, end = _conversation(generator, tokenizer, task, wish), _end_of_turn(tokenizer)
    else:
        text = _plain_text(generator, task, wish, is_cloze)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    head, rest = text.split(_DOCUMENT)
    gap = "" if chat or rest.endswith("\n") else " "
    after = []
    for before, asked in zip(rest.split(_ANSWER), task.asked, strict=True):
        answer = asked.value
        if (is_cloze or in_sentence) and answer[-1].isalnum():
            answer += "."
        after.append(_Block(before, 1.0))
        if in_sentence:
            after.append(_Block(gap + asked.lead, 1.0, plain=True))
        after.append(_Block((" " if in_sentence else gap) + answer, 1.0, answer=True))
    return _Layout(head, after, end, chat)


def _conversation(generator: Draw, tokenizer: Any, task: Task, wish: str) -> str:
    """A chat about the document, up to the last answer."""
    first, *others = task.asked
    form = _one(generator, wordings.CHAT)
    text = form.format(document=_DOCUMENT, question=first.question + wish)
    messages = [{"role": "user", "content": text}]
    for asked in others:
        messages.append({"role": "assistant", "content": _ANSWER})
        messages.append({"role": "user", "content": asked.question})
    return tokenizers.rendered(tokenizer, messages, add_generation_prompt=True)


def _plain_text(generator: Draw, task: Task, wish: str, is_cloze: bool) -> str:
    """The document and its questions as plain text, up to the last answer."""
    forms = wordings.CLOZE if is_cloze else wordings.PLAIN
    form = _one(generator, forms)
    first, *others = task.asked
    text = form.format(document=_DOCUMENT, question=first.question + wish, lead=first.lead)
    if "{question}" not in form.partition("{document}")[2]:
        form = forms[0]
    _, _, later = form.partition("{document}")
    # Leads that all differ name what they ask for.
    if is_cloze and len({asked.lead for asked in task.asked}) == len(task.asked):
        later = "\n{lead}"
    for asked in others:
        text += _ANSWER + later.format(question=asked.question, lead=asked.lead)
    return text


def _one(generator: Draw, among: Sequence[str]) -> str:
    return among[int(generator.integers(len(among)))]


def _end_of_turn(tokenizer: Any) -> list[int]:
    """The tokens that a chat template puts after an answer, up to the first special token."""
    answer = "An answer"
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    _, _, rest = tokenizers.rendered(tokenizer, messages).rpartition(answer)
    end: list[int] = []
    for token in tokenizer(rest, add_special_tokens=False)["input_ids"]:
        end.append(token)
        if token in tokenizer.all_special_ids:
            return end
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _encoded(tokenizer: Any, kind: str, layout: _Layout, document: Sequence[_Block]) -> Exercise:
    """The exercise, with its whole text tokenized at once, as a real prompt is."""
    blocks = [_Block(layout.head, 0.0), *document, *layout.after]
    encoded = tokenizer(
        "".join(block.text for block in blocks),
        add_special_tokens=not layout.is_chat,
        return_offsets_mapping=True,
    )
    # `end` has the token that ends a text, which some tokenizers add themselves.
    count = len(encoded["input_ids"]) - (0 if layout.is_chat else tokenizers.at_the_end(tokenizer))
    token_ids = np.asarray([*encoded["input_ids"][:count], *layout.end], np.int32)
    ends = np.maximum.accumulate([end for _, end in encoded["offset_mapping"][:count]])
    borders = np.cumsum([len(block.text) for block in blocks])
    of_block = np.searchsorted(borders, ends)
    added = len(layout.end)
    answers = np.append([blocks[place].answer for place in of_block], np.zeros(added, bool))
    for last in np.flatnonzero(answers[:-1] & ~answers[1:]):
        after = slice(last + 1, last + 1 + added)
        answers[after] = token_ids[after].tolist() == layout.end
    return Exercise(
        kind=kind,
        token_ids=token_ids,
        depths=np.append([blocks[place].depth for place in of_block], np.ones(added)),
        plain=np.append([blocks[place].plain for place in of_block], np.zeros(added, bool)),
        answers=answers,
    )
