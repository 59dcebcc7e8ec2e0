"""Standard output and error that are closed, full, or in an encoding without some characters."""

import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """Lets commands print whatever they like.

    A stream that the caller has closed is /dev/null from here on. On stdout, a character that its
    encoding lacks is written as an escape, as Python does it on stderr.
    """
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's or a test's need not be one
        sys.stdout.reconfigure(errors="backslashreplace")


def discard_the_rest() -> None:
    """Discards what is still in the buffer, which would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
