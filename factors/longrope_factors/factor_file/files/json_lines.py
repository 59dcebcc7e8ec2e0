"""Files of JSON lines that grow, and may have been left by a killed run."""

import codecs
import os
from pathlib import Path


def whole(path: Path) -> list[bytes]:
    """The lines of a file, none where there is no file.

    A last line that a killed run left unfinished is cut off, in the file too. A byte order mark, as
    editors leave one, is none of the first line's.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    if (end := content.rfind(b"\n") + 1) < len(content):
        os.truncate(path, end)
    return content[:end].removeprefix(codecs.BOM_UTF8).splitlines()
