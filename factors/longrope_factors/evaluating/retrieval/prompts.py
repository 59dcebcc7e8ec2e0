"""Documents and questions as a model's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from longrope_factors.evaluating.retrieval.documents import Asked, Document
from longrope_factors.factor_file.errors import UsageError

Form = Literal["plain", "chat"]


@dataclass(frozen=True)
class Prompts:
    """Writes prompts for one tokenizer: as plain text, or through the model's chat template.

    In the chat form the user says document and question, and the answer's prefix is the beginning
    of what the model says. Raises UsageError for that form where the tokenizer has no template.
    """

    tokenizer: Any
    form: Form

    def __post_init__(self) -> None:
        if self.form == "chat" and not self.tokenizer.chat_template:
            raise UsageError(
                "--form chat needs a chat template, which the model's tokenizer does not have: "
                "--form should be plain."
            )

    def ids(self, document: Document, asked: Sequence[Asked]) -> list[list[int]]:
        """Tokens of the prompt of each question, up to where its answer begins."""
        return self._tokens([self.text(document, one) for one in asked])

    def answered(self, document: Document) -> list[tuple[list[int], int]]:
        """Tokens of the prompt of each question with its answer, and where the answer begins."""
        prompts = [self.text(document, asked) for asked in document.asked]
        answers = [said(asked.answers) for asked in document.asked]
        with_answers = [
            f"{prompt} {answer}" for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return [
            (ids, common([before, ids]))
            for before, ids in zip(self._tokens(prompts), self._tokens(with_answers), strict=True)
        ]

    def text(self, document: Document, asked: Asked) -> str:
        """The prompt of one question, up to where its answer begins."""
        user = document.text + asked.question
        if self.form == "plain":
            return f"{user} {asked.prefix}"
        template = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": user}], tokenize=False, add_generation_prompt=True
        )
        return f"{template}{asked.prefix}"

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # A template has the special tokens that a text begins with.
        special = self.form == "plain"
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=special)["input_ids"]
        return found


def said(answers: Sequence[str]) -> str:
    """Several answers as a model may give them."""
    *others, last = answers
    return f"{', '.join(others)}, and {last}" if others else last


def common(texts: Sequence[list[int]]) -> int:
    """How many tokens at the beginning are the same in all texts."""
    first, last = min(texts), max(texts)  # what these two share, all share
    length = min(len(first), len(last))
    return next((at for at in range(length) if first[at] != last[at]), length)
