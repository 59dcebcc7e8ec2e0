"""An answer, as far as it has arrived."""

from dataclasses import dataclass, field
from typing import Any

from longrope_server.ask.untrusted import at, count_at


@dataclass
class Answer:
    """The text of an answer and what the server said about it; None for what it did not say.

    started, finished: the max_length of the factor sets. Seconds count from the sending of the
    question.
    """

    parts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    started: int | None = None
    finished: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    first_token_seconds: float | None = None
    total_seconds: float = 0.0

    def note(self, chunk: Any) -> str:
        """Notes what a `chat.completion.chunk` says; returns the text that it adds."""
        usage = at(chunk, "usage")
        self.prompt_tokens = _newer(count_at(usage, "prompt_tokens"), self.prompt_tokens)
        self.answer_tokens = _newer(count_at(usage, "completion_tokens"), self.answer_tokens)
        self.started = _newer(count_at(usage, "factor_set", "started"), self.started)
        self.finished = _newer(count_at(usage, "factor_set", "finished"), self.finished)
        choice = _first(at(chunk, "choices"))
        reason = at(choice, "finish_reason")
        self.finish_reason = reason if isinstance(reason, str) else self.finish_reason
        text = at(choice, "delta", "content")
        if not isinstance(text, str):
            return ""
        self.parts.append(text)
        return text

    @property
    def promoted(self) -> bool | None:
        """Whether the answer outgrew the set that it started with; None if that is not known."""
        if self.started is None or self.finished is None:
            return None
        return self.finished > self.started

    @property
    def tokens_per_second(self) -> float | None:
        """The rate of the tokens after the first; None if it is not known."""
        if self.first_token_seconds is None or (self.answer_tokens or 0) < 2:
            return None
        seconds = self.total_seconds - self.first_token_seconds
        assert self.answer_tokens is not None
        return (self.answer_tokens - 1) / seconds if seconds > 0 else None

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        factor_set = {
            "started": self.started,
            "finished": self.finished,
            "promoted": self.promoted,
        }
        return {
            "answer": "".join(self.parts),
            "finish_reason": self.finish_reason,
            "factor_set": None if self.started is None else factor_set,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "first_token_seconds": _rounded(self.first_token_seconds),
            "total_seconds": _rounded(self.total_seconds),
            "tokens_per_second": _rounded(self.tokens_per_second),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _first(choices: Any) -> Any:
    """The choice with index 0, the only one that was asked for; None without it."""
    listed = choices if isinstance(choices, list) else []
    return next((choice for choice in listed if at(choice, "index") in (0, None)), None)


def _newer(said: int | None, before: int | None) -> int | None:
    return before if said is None else said
