"""Server-sent events: the data of each event, as bytes arrive.

The grammar is that of the HTML standard, "Parsing an event stream": a line ends with CR LF, LF or
CR; a byte order mark may precede the first line; an empty line ends an event; comments, event
types, ids and retry times are not data. An event that is incomplete at the end of the stream does
not count.
"""

import codecs
import re

LINE_END = re.compile(rb"\r\n|\r|\n")


class Events:
    """Takes bytes in any pieces and returns whole events; skips comments (keep-alives)."""

    def __init__(self) -> None:
        self._began = False  # whether the first line is complete
        self._partial: list[bytes] = []  # pieces of the line that has not ended yet
        self._after_return = False  # whether a line feed that comes next belongs to a line's end
        self._data: list[bytes] = []  # data of the event that has not ended yet

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that `piece` completes."""
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        *ends, rest = LINE_END.split(piece)
        events = []
        for end in ends:
            line = b"".join([*self._partial, end])
            self._partial.clear()
            if not self._began:
                line = line.removeprefix(codecs.BOM_UTF8)
                self._began = True
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data.clear()
        if rest:
            self._partial.append(rest)
        elif ends:
            self._after_return = piece.endswith(b"\r")
        return events

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
