"""Puts a question about a document to a server, and reads the answer as it arrives."""

import json
import math
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from longrope_server.ask import sse
from longrope_server.ask.answer import Answer
from longrope_server.ask.server import Server, ServerError
from longrope_server.ask.untrusted import at
from longrope_server.errors import UsageError
from longrope_server.front_end.factor_set.answer import HEADER

PREFILL = re.compile(r"prefill ([0-9]{1,9})/([0-9]{1,9})")
GIVEN_UP = ("abort", "error")  # vLLM's finish reasons for answers that it did not complete


@dataclass(frozen=True)
class Question:
    """What is asked.

    max_tokens: the most that the answer may have. temperature: None for the server's own.
    """

    document: str
    text: str
    max_tokens: int
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("QUESTION is empty: ask something about the document.")
        if any("\ud800" <= character <= "\udfff" for character in self.text):
            raise UsageError("QUESTION is not UTF-8 text: ask in UTF-8.")
        if self.temperature is not None and not math.isfinite(self.temperature):
            raise UsageError(f"--temperature is {self.temperature}; it should be a number from 0.")

    def messages(self) -> list[dict[str, str]]:
        """The prompt. The question is last: models answer best what they have just read."""
        return [{"role": "user", "content": f"{self.document}\n\n{self.text}"}]

    def body(self, model: str) -> dict[str, Any]:
        """The request for a streamed chat completion."""
        body: dict[str, Any] = {
            "model": model,
            "messages": self.messages(),
            "max_tokens": self.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body if self.temperature is None else {**body, "temperature": self.temperature}


@dataclass(frozen=True)
class Prefill:
    """How many of the prompt's tokens the server has computed."""

    computed: int
    total: int


def put(server: Server, model: str, question: Question, answer: Answer) -> Generator[Prefill | str]:
    """Sends the question and fills `answer`; yields the prefill's progress, then the answer's text.

    Raises UsageError if the question is refused, ServerError if the answer breaks off.
    """
    sent = time.monotonic()
    try:
        with server.answered("POST", "/v1/chat/completions", question.body(model)) as response:
            header = response.headers.get(HEADER, "")
            answer.started = int(header) if re.fullmatch("[0-9]{1,9}", header) else None
            for part in _parts(server, response, answer):
                if isinstance(part, str) and answer.first_token_seconds is None:
                    answer.first_token_seconds = time.monotonic() - sent
                yield part
    finally:
        answer.total_seconds = time.monotonic() - sent


def _parts(server: Server, response: httpx.Response, answer: Answer) -> Iterator[Prefill | str]:
    try:
        for item in sse.parse(response.iter_bytes()):
            if isinstance(item, sse.Comment):
                if progress := PREFILL.fullmatch(item.text.strip()):
                    yield Prefill(*map(int, progress.groups()))
            elif item.data.strip() == "[DONE]":
                break
            elif text := answer.note(_chunk(server, item.data)):
                yield text
    except httpx.RequestError:
        if answer.finish_reason is None:
            raise
    if answer.finish_reason is None:
        raise ServerError(f"{server.url} ended the stream before the answer was complete.")
    if answer.finish_reason in GIVEN_UP:
        raise ServerError(
            f"{server.url} gave the answer up before it was complete (finish_reason "
            f"{answer.finish_reason})."
        )


def _chunk(server: Server, data: str) -> Any:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):  # RecursionError if it is nested too deeply
        raise ServerError(f"{server.url} sent an event that is not JSON.") from None
    if at(chunk, "error") is not None:
        raise ServerError(f"{server.url} broke the answer off{server.says(chunk)}.")
    return chunk
