"""The user's own prompts and recorded bodies: JSON Lines, one request per line."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_loadtest import text_files
from longrope_loadtest.errors import UsageError

CONTENT = {"chat": "messages", "completions": "prompt"}  # the field that a line must have
EXAMPLES = {
    "chat": '{"messages": [{"role": "user", "content": "Hello"}]}',
    "completions": '{"prompt": "Hello"}',
}
SET_BY_THE_CLASS = ("model", "stream", "stream_options")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: the fields of a body, and the text as it is in the file."""

    text: str
    fields: dict[str, Any]

    @property
    def output_tokens(self) -> int | None:
        """The most tokens that the line asks for; None if it does not say."""
        for name in ("max_completion_tokens", "max_tokens"):
            tokens = self.fields.get(name)
            if isinstance(tokens, int):
                return tokens
        return None

    def turns(self) -> "list[Line]":
        """A line for each user message, with the messages since the previous one.

        The assistant's are left out, as the model gives its own.
        """
        parts: list[list[Any]] = [[]]
        for message in self.fields["messages"]:
            if message["role"] != "assistant":
                parts[-1].append(message)
            if message["role"] == "user":
                parts.append([])
        return [Line("", self.fields | {"messages": part}) for part in parts[:-1]]


def read(
    path: Path,
    api: str,
    *,
    whole: bool = False,
    by_turn: bool = False,
    streamed_for: str | None = None,
) -> list[Line]:
    """The lines of a file: prompts, `whole` bodies, or conversations to be sent `by_turn`.

    `streamed_for` is an objective for which each body must ask for a stream.

    Raises:
        UsageError: The file cannot be read or a line is wrong; the message has the line's number.
    """
    lines = []
    for number, text in enumerate(text_files.lines(text_files.read(path)), 1):
        if text:
            place = f"{path}, line {number}"
            lines.append(_line(place, text, api, whole=whole, by_turn=by_turn))
            if streamed_for is not None and lines[-1].fields.get("stream") is not True:
                raise UsageError(f"{place}: slo.{streamed_for} needs a body with stream: true.")
    if not lines:
        raise UsageError(f"{path} has no prompts.")
    return lines


def _line(place: str, text: str, api: str, *, whole: bool, by_turn: bool) -> Line:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not JSON.") from error
    name = CONTENT[api]
    if not isinstance(fields, dict) or not fields.get(name):
        raise UsageError(f"{place}: must be an object with {name}, for example {EXAMPLES[api]}.")
    if api == "chat" and not _are_messages(fields[name]):
        raise UsageError(f"{place}: messages must be a list of objects with a role.")
    if not whole:
        for field in SET_BY_THE_CLASS:
            if field in fields:
                raise UsageError(
                    f"{place}: {field} is set by the class; to send recorded bodies as they are, "
                    "use prompt kind replay."
                )
    line = Line(text, fields)
    if by_turn and not line.turns():
        raise UsageError(f"{place}: messages must have one of the user's, to be sent by_turn.")
    return line


def _are_messages(messages: object) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and "role" in message for message in messages
    )
