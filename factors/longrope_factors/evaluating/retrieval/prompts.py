"""Documents and questions as a model's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from longrope_factors.evaluating.retrieval.documents import Asked, Document
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import tokenizers

Form = Literal["plain", "chat"]


@dataclass(frozen=True)
class Prompts:
    """Writes prompts for one tokenizer: as plain text, or through the model's chat template.

    In the chat form, the user's message is the document and the question, and the answer's prefix
    is the beginning of the model's message. Raises UsageError for the chat form if the tokenizer
    has no template.
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
        """The tokens of each question's prompt, up to where its answer begins."""
        return self._tokens([self.text(document, question) for question in asked])

    def answered(self, document: Document) -> list[tuple[list[int], int]]:
        """The tokens of each question's prompt with its answer, and where the answer begins."""
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
        messages = [{"role": "user", "content": user}]
        template = tokenizers.rendered(self.tokenizer, messages, add_generation_prompt=True)
        return f"{template}{asked.prefix}"

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # A chat template already has the special tokens at the beginning of a text.
        if self.form == "plain":
            return tokenizers.prompt_ids(self.tokenizer, texts)
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids


def said(answers: Sequence[str]) -> str:
    """Several answers as one text, as a model may give them."""
    *others, last = answers
    return f"{', '.join(others)}, and {last}" if others else last


def common(texts: Sequence[list[int]]) -> int:
    """The number of tokens at the beginning that are the same in all texts."""
    first, last = min(texts), max(texts)  # all texts have in common what these two do
    length = min(len(first), len(last))
    return next((at for at in range(length) if first[at] != last[at]), length)
