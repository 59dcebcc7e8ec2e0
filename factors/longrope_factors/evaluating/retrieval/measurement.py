"""One document of a task: made from a seed, read by a model, and its answers judged."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from longrope_factors.evaluating.contenders import Served
from longrope_factors.evaluating.measuring import Measurement, common_fields
from longrope_factors.evaluating.retrieval.documents import Asked, Document, Task
from longrope_factors.evaluating.retrieval.filler import NOISE, Filler
from longrope_factors.evaluating.retrieval.fitting import Fitted, fit
from longrope_factors.evaluating.retrieval.prompts import Prompts
from longrope_factors.evaluating.retrieval.results import Answer, Asking
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models.loading import LoadedModel

if TYPE_CHECKING:
    from longrope_factors.evaluating.retrieval.asking import Question, Said


_SHORT = 4096


@dataclass(frozen=True)
class Material:
    """What documents are made from: prompts, filler, the number of facts, and a seed."""

    prompts: Prompts
    filler: Filler
    facts: int
    seed: int

    def documents(self, task: Task, documents: int) -> range:
        """The numbers of a task's documents, if every depth is to be measured `documents` times.

        If a document has only one fact, each depth needs its own document.
        """
        return range(documents * (self.facts if task.alone else 1))

    def filler_of(self, task: Task) -> Filler:
        """The text between the facts of a task's documents."""
        return self.filler if task.reads_corpus else NOISE

    def fitted(self, task: Task, length: int, number: int) -> Fitted:
        """The document with this number, at most `length` tokens long; the same at every call.

        Raises UsageError, naming the task, if the length is too short for its facts.
        """
        count = math.ceil(self.facts / task.group) * task.group
        # The middles of equal stretches: a mean over them estimates that over random places.
        depths = [round((place + 0.5) / count, 4) for place in range(count)]
        if task.alone:
            depths = [depths[number % count]]
        seed = f"{self.seed}/{task.name}/{length}/{number}"

        def make(units: int) -> Document:
            return task.make(Random(seed), units, depths, self.filler_of(task))

        try:
            return fit(self.prompts, make, len(depths), length, task.said)
        except UsageError as error:
            raise UsageError(f"{task.name} with {self.facts} facts: {error}") from None


def short_length(original: int) -> int:
    """The length of a model's short score: 4,096 tokens, or half its original length if less."""
    return min(_SHORT, original // 2)


def measurements(
    material: Material,
    weights_sha256: str,
    dtype: str,
    chosen: Sequence[Task],
    compared: Mapping[int, Sequence[Served]],
    documents: int,
) -> list[Measurement[Asking]]:
    """The plans for all documents of the `chosen` tasks, by the lengths of `compared`."""
    return [
        measurement(material, weights_sha256, dtype, task, length, number, served)
        for length in sorted(compared)
        for served in compared[length]
        for task in chosen
        for number in material.documents(task, documents)
    ]


def measurement(
    material: Material,
    weights_sha256: str,
    dtype: str,
    task: Task,
    length: int,
    number: int,
    served: Served,
) -> Measurement[Asking]:
    """The plan for the document with this number of a task."""
    return Measurement(
        key=(
            *(weights_sha256, dtype, served.factor_set.fingerprint, task.name),
            *(material.prompts.form, length, material.facts, number, material.seed),
            material.filler_of(task).sha256,
        ),
        method=served.method,
        title=f"{task.name} {length} {served.method}",
        window=length,
        windows=1,
        make=partial(ask, material, task, length, number, served),
        adapter=served.adapter,
    )


def ask(
    material: Material,
    task: Task,
    length: int,
    number: int,
    served: Served,
    loaded: LoadedModel,
    on_layer: Callable[[], None],
) -> Asking:
    """Read the document and answer its questions; `on_layer` is called after each layer."""
    # Imports torch, which is not needed to read results.
    from longrope_factors.evaluating.retrieval import asking

    started = time.monotonic()
    fitted = material.fitted(task, length, number)
    tokenizer = material.prompts.tokenizer
    questions = [
        asking.Question(question, answer, task.said, _has_all(tokenizer, asked.answers))
        for (question, answer), asked in zip(fitted.tails, fitted.document.asked, strict=True)
    ]
    answers = asking.answers(loaded, served.factor_set, fitted.context_ids, questions, on_layer)
    return Asking(
        **common_fields(loaded, served.factor_set, served.method, length, started),
        task=task.name,
        form=material.prompts.form,
        facts=material.facts,
        document=number,
        seed=material.seed,
        filler_sha256=material.filler_of(task).sha256,
        tokens=fitted.tokens,
        answers=tuple(
            _judged(tokenizer, asked, question, said)
            for asked, question, said in zip(fitted.document.asked, questions, answers, strict=True)
        ),
    )


def _judged(tokenizer: Any, asked: Asked, question: "Question", said: "Said") -> Answer:
    text = tokenizer.decode(said.said_ids)
    return Answer(
        question=asked.question.strip(),
        answers=asked.answers,
        depths=asked.depths,
        found=contained(text, asked.answers),
        exact=said.exact and not _goes_on(tokenizer, question.answer_ids, said.next_id),
        loss=said.loss,
        said=text,
    )


def contained(text: str, answers: Sequence[str]) -> tuple[bool, ...]:
    """Which of the answers are in a text, by the rule of RULER's string_match_all."""
    return tuple(answer.lower() in text.lower() for answer in answers)


def _has_all(tokenizer: Any, answers: Sequence[str]) -> Callable[[Sequence[int]], bool]:
    return lambda said_ids: all(contained(tokenizer.decode(list(said_ids)), answers))


def _goes_on(tokenizer: Any, answer_ids: Sequence[int], next_id: int) -> bool:
    """Whether the next token continues the answer's last word, as a digit continues a number."""
    answer = tokenizer.decode(list(answer_ids))
    after = tokenizer.decode([*answer_ids, next_id])[len(answer) :]
    return answer[-1:].isalnum() and after[:1].isalnum()
