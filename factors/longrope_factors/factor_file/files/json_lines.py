"""JSON Lines files that a run appends to; a killed run may have left the last line unfinished."""

import codecs
import os
from pathlib import Path


def whole(path: Path) -> list[bytes]:
    """The complete lines of a file; none if the file does not exist.

    A last line that a killed run left unfinished is no part of them, nor is one that another run is
    writing. A byte order mark, which some editors write, is not part of the first line.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1].removeprefix(codecs.BOM_UTF8).splitlines()


def begin(path: Path) -> None:
    """Make the file, or cut off the last line that a killed run left unfinished; then append."""
    with path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        if (end := content.rfind(b"\n") + 1) < len(content):
            file.truncate(end)


def append(path: Path, line: str) -> None:
    """Add one line and have it on the disk."""
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
