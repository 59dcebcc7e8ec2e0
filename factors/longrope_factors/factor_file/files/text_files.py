"""Text files that people write: UTF-8, with or without a byte order mark."""

import codecs
import os
from pathlib import Path

from longrope_factors.factor_file.errors import FactorFileError

# UTF-32 comes first because its little-endian mark begins with UTF-16's.
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def readable(name: str) -> str:
    """A file's name as text that JSON can hold: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def decoded(path: Path, content: bytes) -> str:
    """`content` of the file `path`, decoded from UTF-8 without its byte order mark.

    Raises FactorFileError, naming the file, for other encodings and for bytes that are not text.
    """
    for mark, encoding in _OTHER_MARKS.items():
        if content.startswith(mark):
            raise FactorFileError(
                f"{path}: is {encoding} text by its byte order mark (BOM); save it as UTF-8."
            )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FactorFileError(f"{path}: is not UTF-8 text (byte {error.start}).") from None
    if (at := content.find(b"\0")) >= 0:
        raise FactorFileError(
            f"{path}: is not UTF-8 text (byte {at} is 0, as in UTF-16 without a byte order mark)."
        )
    return text
