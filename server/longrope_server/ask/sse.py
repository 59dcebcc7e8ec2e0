"""Splits a stream of server-sent events into events and comments as its bytes arrive.

The grammar is the HTML standard's, "Parsing an event stream". Standard parsers drop the comments;
here they carry the progress of a prefill.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Event:
    """One event's data."""

    data: str


@dataclass(frozen=True)
class Comment:
    """One comment, without its colon and the space after it."""

    text: str


def parse(chunks: Iterable[bytes]) -> Iterator[Event | Comment]:
    """The events and comments of a stream whose `chunks` may be split anywhere.

    An event that is incomplete at the end of the stream is dropped, as the standard says.
    """
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield Event("\n".join(data))
            data = []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field and line.startswith(":"):
            yield Comment(value)
        elif field == "data":
            data.append(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The complete lines of the stream, as soon as their ends have arrived."""
    partial: list[bytes] = []
    first, after_return = True, False
    for chunk in chunks:
        if after_return and chunk:  # the second half of a line end that was split
            chunk = chunk.removeprefix(b"\n")
            after_return = False
        *whole, rest = LINE_END.split(chunk)
        if whole:
            after_return = not rest and chunk.endswith(b"\r")
        for line in whole:
            text = b"".join([*partial, line]).decode(errors="replace")
            partial = []
            yield text.removeprefix("\ufeff") if first else text
            first = False
        if rest:
            partial.append(rest)
