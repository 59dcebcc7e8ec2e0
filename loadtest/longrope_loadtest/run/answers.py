"""Read answers of the OpenAI API, streamed or whole, into a record."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from longrope_loadtest.profiles.bounds import MOST
from longrope_loadtest.run.record import Record
from longrope_loadtest.run.sse import Events

KEPT = 200  # the most characters kept of a passkey's answer and of an error
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"
DONE = "[DONE]"  # after the last event
GIVEN_UP = ("abort", "error")  # vLLM's finish reasons for answers that it did not complete


class BrokenAnswerError(Exception):
    """The answer reports an error or is not valid; `kind` is the error's name in counts."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class _Choice:
    """One of the answers to a request, which may ask for several with `n`."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)  # where the server separates it
    finish_reason: str | None = None


class Answer:
    """An answer as it arrives; the caller passes the times."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._events = Events()
        self._beginning = b""  # of a stream, for the message if it is none
        self._choices: dict[int, _Choice] = {}  # those seen so far, by their index
        self.is_done = False  # whether [DONE] came

    def feed(self, piece: bytes, time: float) -> None:
        """Take bytes of a stream that arrived at `time`.

        As in `vllm bench serve`, an event that has a choice counts as a token, even if it has no
        text: vLLM's last event of an answer is for its end token. Only the event that announces a
        chat's role does not count. An event counts once, however many choices it has. Everything
        after [DONE] is ignored, as OpenAI's clients do.

        Raises:
            BrokenAnswerError: An event is an error, or is not one of the API's.
        """
        self._beginning += piece[: KEPT - len(self._beginning)]
        for data in self._events.feed(piece):
            if self.is_done:
                return
            if data.strip() == DONE:
                self.is_done = True
                continue
            event = _parsed(data)
            if event.get("error"):
                raise BrokenAnswerError("error event", _error_message(event))
            with _of_the_api(data):
                self._count(event)
                are_tokens = [self._take(choice) for choice in event.get("choices") or ()]
                if any(are_tokens):
                    self._token(time)

    def whole(self, body: bytes, time: float) -> None:
        """Take an answer that was not streamed.

        Raises:
            BrokenAnswerError: It is an error, or not an answer of the API.
        """
        text = body.decode("utf-8-sig", "replace")
        answer = _parsed(text)
        if answer.get("error"):
            raise BrokenAnswerError("error answer", _error_message(answer))
        if not answer.get("choices"):
            raise BrokenAnswerError("no answer", _sent(text))
        with _of_the_api(text):
            self._count(answer)
            for index, choice in enumerate(answer["choices"]):
                message = choice.get("message") or {}
                content = choice.get("text") or message.get("content") or ""
                reason = _finish_reason(choice) or "stop"  # HTTP marks the end of the answer
                self._choices[index] = _Choice(
                    [_checked(content)], [_checked(_reasoning_of(message))], reason
                )
        self._record.last_token = time

    def end(self) -> None:
        """Check that the answer is complete, and whether its passkey is right.

        Raises:
            BrokenAnswerError: The stream ended in the middle, or without a token.
        """
        record = self._record
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices:
            raise BrokenAnswerError("no answer", _sent(self._beginning.decode("utf-8", "replace")))
        if any(choice.finish_reason is None for choice in choices):
            raise BrokenAnswerError(
                "broken stream", "The stream ended before the answer did: no finish_reason came."
            )
        if record.last_token is None:
            raise BrokenAnswerError("no token", "The answer ended without a token.")
        if record.passkey is not None:
            text = "".join(choices[0].reasoning + choices[0].content)
            record.correct = record.passkey in text
            record.answer = writable(text[:KEPT])

    def message(self, *, reasoning: bool) -> dict[str, str]:
        """The first choice as a message of the history; `reasoning`: with the model's thoughts.

        If the server did not separate them, they are what is before `</think>`.
        """
        choice = self._choices[min(self._choices)]
        content, thoughts = "".join(choice.content), "".join(choice.reasoning)
        if not reasoning:
            _, thinks, answer = content.rpartition(THOUGHT_ENDS)
            if not thinks and answer.lstrip().startswith(THOUGHT_BEGINS):
                answer = ""  # it was cut off before it answered
            return {"role": "assistant", "content": answer.lstrip() if thinks else answer}
        message = {"role": "assistant", "content": content}
        return message | {"reasoning": thoughts} if thoughts else message

    def _take(self, event: dict[str, Any]) -> bool:
        """Keep the text and finish reason of one choice of an event; whether it is a token."""
        choice = self._choices.setdefault(_index(event), _Choice())
        said = _said(event)
        is_token = said is not None and choice.finish_reason is None
        if said is not None and is_token:
            choice.content.append(_checked(said[0]))
            choice.reasoning.append(_checked(said[1]))
        choice.finish_reason = _finish_reason(event) or choice.finish_reason
        return is_token

    def _token(self, time: float) -> None:
        record = self._record
        if record.first_token is None:
            record.first_token = time
        else:
            assert record.last_token is not None
            record.token_gaps.append(time - record.last_token)
        record.last_token = time

    def _count(self, event: dict[str, Any]) -> None:
        usage = event.get("usage")
        if not isinstance(usage, dict):
            return
        record = self._record
        record.prompt_tokens = _count_of(usage, "prompt_tokens", record.prompt_tokens)
        record.output_tokens = _count_of(usage, "completion_tokens", record.output_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            record.cached_tokens = _count_of(details, "cached_tokens", record.cached_tokens)
        served = usage.get("factor_set")
        if isinstance(served, dict) and served.get("promoted"):
            record.promoted_to = writable(str(served.get("finished")))


def error_message(body: bytes) -> str:
    """The sentence in an error's body, or the body's beginning."""
    try:
        return _error_message(json.loads(body))
    except (ValueError, RecursionError):  # also bytes that are not text, or nested too deeply
        return body[:KEPT].decode("utf-8", "replace")


def _error_message(answer: object) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error) if isinstance(error, dict) else error
    return writable(str(message)[:KEPT])


def writable(text: str) -> str:
    """The text with ? for halves of surrogate pairs, which a file of UTF-8 cannot have.

    They come from JSON, and from bytes outside ASCII in a header.
    """
    return text.encode("utf-8", "replace").decode()


def _parsed(data: str) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):  # also an integer with too many digits, too deep nesting
        answer = None
    if not isinstance(answer, dict):
        raise BrokenAnswerError("not JSON", _sent(data))
    return answer


@contextlib.contextmanager
def _of_the_api(data: str) -> Iterator[None]:
    """Make an answer of another shape a BrokenAnswerError, so that it does not end the run."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise BrokenAnswerError("no answer", _sent(data)) from error


def _sent(text: str) -> str:
    return f"The server sent {text[:KEPT]!r}." if text else "The server sent nothing."


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError
    return text


def _count_of(counts: dict[str, Any], name: str, before: int | None) -> int | None:
    """A count of tokens; the one before if it is none."""
    count = counts.get(name)
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MOST
    return count if is_count else before


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    if index is not None and not isinstance(index, int):
        raise TypeError
    return index or 0


def _finish_reason(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    if reason in GIVEN_UP:
        raise BrokenAnswerError("given up", f"The server ended the answer by {reason!r}.")
    return _checked(reason) if reason else None


def _said(choice: dict[str, Any]) -> tuple[str, str] | None:
    """The content and the reasoning in a token's event.

    None if the event only announces a chat's role or has no text field.
    """
    delta = choice.get("delta")
    if delta is None:
        return (choice["text"] or "", "") if "text" in choice else None
    content, reasoning = delta.get("content") or "", _reasoning_of(delta)
    announces = delta.get("role") and not delta.get("tool_calls")
    if not content and not reasoning and announces and not choice.get("finish_reason"):
        return None
    return content, reasoning


def _reasoning_of(message: dict[str, Any]) -> str:
    return message.get("reasoning") or message.get("reasoning_content") or ""
