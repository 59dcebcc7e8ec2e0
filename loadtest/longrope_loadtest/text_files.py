"""Text files that people write: UTF-8, with or without a byte order mark."""

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longrope_loadtest.errors import UsageError

# UTF-32 comes first because its little-endian mark begins with UTF-16's.
OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read(path: Path) -> str:
    """The text of a file without its byte order mark.

    Raises:
        UsageError: The file cannot be read or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    for mark, encoding in OTHER_MARKS.items():
        if content.startswith(mark):
            raise UsageError(
                f"{path} cannot be read: by its byte order mark (BOM) it is {encoding}; "
                "save it as UTF-8."
            )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} cannot be read: it is not UTF-8 text (byte {error.start})."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence that `path`, a file or a directory, cannot be written.

    Raises:
        UsageError: The system said so within the context.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def lines(text: str) -> list[str]:
    """The lines of a text, without the space around them.

    Unlike `str.splitlines`, it does not split at the other line ends that a JSON string may hold.
    """
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
