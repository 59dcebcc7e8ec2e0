"""JSON Lines files that a run appends to; a killed run may have left the last line unfinished."""

import codecs
import os
from pathlib import Path


def whole(path: Path) -> list[bytes]:
    """The complete lines of a file; none if the file does not exist.

    An unfinished last line of a killed run is cut off, also in the file. A byte order mark, which
    some editors write, is not part of the first line.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    if (end := content.rfind(b"\n") + 1) < len(content):
        os.truncate(path, end)
    return content[:end].removeprefix(codecs.BOM_UTF8).splitlines()
