"""Reads answers of the OpenAI API, streamed or whole, into a record."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from longrope_loadtest.record import Record
from longrope_loadtest.sse import Events

KEPT = 200  # characters of a passkey's answer


class BrokenAnswerError(Exception):
    """The answer says that something went wrong, or is not one; `kind` names it in counts."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Answer:
    """An answer as it arrives; times are the caller's."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._events = Events()
        self._text: list[str] = []
        self._finished = False

    def feed(self, piece: bytes, time: float) -> None:
        """Takes bytes of a stream that arrived at `time`.

        An event is a token's if it has a choice, as in `vllm bench serve`, also where the token has
        no text: vLLM's last event of an answer is its end token's. Only the one that announces a
        chat's role is not.

        Raises:
            BrokenAnswerError: An event is an error, or none of the API's.
        """
        for data in self._events.feed(piece):
            if data == "[DONE]":
                self._finished = True
                continue
            event = _parsed(data)
            if event.get("error"):
                raise BrokenAnswerError("error event", _error_message(event))
            with _of_the_api(data):
                self._count(event)
                for choice in event.get("choices") or ():
                    self._take(choice, time)

    def whole(self, body: bytes, time: float) -> None:
        """Takes an answer that was not streamed.

        Raises:
            BrokenAnswerError: It is none of the API's.
        """
        text = body.decode("utf-8", "replace")
        answer = _parsed(text)
        with _of_the_api(text):
            self._count(answer)
            for choice in answer.get("choices") or ():
                message = choice.get("message") or {}
                self._text.append(choice.get("text") or message.get("content") or "")
                self._finished = True
        self._record.last_token = time

    def end(self) -> None:
        """Checks that the answer is one, and whether its passkey is right.

        Raises:
            BrokenAnswerError: The stream ended in the middle, or without a token.
        """
        record = self._record
        if not self._finished:
            raise BrokenAnswerError("broken stream", "The stream ended before the answer did.")
        if record.last_token is None:
            raise BrokenAnswerError("no token", "The answer ended without a token.")
        if record.passkey is not None:
            text = "".join(self._text)
            record.correct = record.passkey in text
            record.answer = text[:KEPT]

    def _take(self, choice: dict[str, Any], time: float) -> None:
        record = self._record
        text = _text_of(choice)
        if text is not None:
            self._text.append(text)
            if record.first_token is None:
                record.first_token = time
            else:
                assert record.last_token is not None
                record.token_gaps.append(time - record.last_token)
            record.last_token = time
        if choice.get("finish_reason"):
            self._finished = True

    def _count(self, event: dict[str, Any]) -> None:
        usage = event.get("usage")
        if not isinstance(usage, dict):
            return
        record = self._record
        record.prompt_tokens = usage.get("prompt_tokens", record.prompt_tokens)
        record.output_tokens = usage.get("completion_tokens", record.output_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            record.cached_tokens = details.get("cached_tokens")
        served = usage.get("factor_set")
        if isinstance(served, dict) and served.get("promoted"):
            record.promoted_to = str(served.get("finished"))


def error_message(body: bytes) -> str:
    """The sentence in an error's body, or the body's beginning."""
    try:
        return _error_message(json.loads(body))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return body[:KEPT].decode("utf-8", "replace")


def _error_message(answer: object) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:KEPT]


def _parsed(data: str) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except json.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise BrokenAnswerError("not JSON", f"The server sent {data[:KEPT]!r}.")
    return answer


@contextlib.contextmanager
def _of_the_api(data: str) -> Iterator[None]:
    """One answer of another shape must not end the run."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise BrokenAnswerError("no answer", f"The server sent {data[:KEPT]!r}.") from error


def _text_of(choice: dict[str, Any]) -> str | None:
    """The text of a token's event; None for the event that only announces a chat's role."""
    delta = choice.get("delta")
    if delta is None:
        return choice.get("text") or ""
    text = delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content")
    announces = delta.get("role") and not delta.get("tool_calls")
    if not text and announces and not choice.get("finish_reason"):
        return None
    return text or ""
