"""Server-sent events: the data of each event, as bytes arrive.

The grammar is the HTML standard's, "Parsing an event stream": a line ends with CR LF, LF or CR, a
byte order mark may stand before the first, an empty line ends an event, and comments, event types,
ids and retry times are no data. An event that the stream ends within is none.
"""

import codecs
import re

LINE_END = re.compile(rb"\r\n|\r|\n")


class Events:
    """Takes bytes in any pieces and gives whole events; comments (keep-alives) are none."""

    def __init__(self) -> None:
        self._began = False  # the first line is whole
        self._partial: list[bytes] = []  # of the line that has not ended yet
        self._after_return = False  # a line feed that comes next is the rest of a line's end
        self._data: list[bytes] = []  # of the event that has not ended yet

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that `piece` completes."""
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        *ends, rest = LINE_END.split(piece)
        found = []
        for end in ends:
            line = b"".join([*self._partial, end])
            self._partial.clear()
            if not self._began:
                line = line.removeprefix(codecs.BOM_UTF8)
                self._began = True
            if line:
                self._take(line)
            elif self._data:
                found.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data.clear()
        if rest:
            self._partial.append(rest)
        elif ends:
            self._after_return = piece.endswith(b"\r")
        return found

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
