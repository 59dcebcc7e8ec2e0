"""Server-sent events: the data of each event, as bytes arrive."""


class Events:
    """Takes bytes in any pieces and gives whole events; comments (keep-alives) are none."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that `piece` completes."""
        # A CR may be the first half of a line's end.
        text = (self._rest + piece).replace(b"\r\n", b"\n")
        *blocks, self._rest = text.split(b"\n\n")
        found = []
        for block in blocks:
            data = [
                line[5:].removeprefix(b" ") for line in block.split(b"\n") if line[:5] == b"data:"
            ]
            if data:
                found.append(b"\n".join(data).decode("utf-8", "replace"))
        return found
