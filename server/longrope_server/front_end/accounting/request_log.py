"""The request log: a JSON line for each HTTP request, in files that are rotated by size.

Several API processes append to one file. A line is one write, so lines never mix; whoever finds the
file full renames it, under a lock, and the others see that the name belongs to a new file.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

FILE = "requests.jsonl"  # in the directory of `--accounting`; older files are requests.jsonl.1, ...
BYTES = 100 << 20
OLDER_FILES = 9


class RequestLog:
    """Appends to the log in `directory`, from one thread of one process."""

    def __init__(self, directory: Path, limit: int = BYTES) -> None:
        self.path = directory / FILE
        self.limit = limit
        self.descriptor: int | None = None

    def write(self, lines: Sequence[str]) -> None:
        """Appends the lines, whole or not at all. Raises OSError."""
        data = "".join(f"{line}\n" for line in lines).encode()
        lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            descriptor, size = self._opened()
            if size and size + len(data) > self.limit:
                self._rotate()
                descriptor, size = self._opened()
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)  # no half of a line
                raise
        finally:
            os.close(lock)

    def _opened(self) -> tuple[int, int]:
        """The file that has the log's name now, and its size."""
        if self.descriptor is not None:
            mine = os.fstat(self.descriptor)
            try:
                named = self.path.stat()
            except FileNotFoundError:
                named = None
            if named is not None and named.st_ino == mine.st_ino and named.st_dev == mine.st_dev:
                return self.descriptor, mine.st_size
            os.close(self.descriptor)
            self.descriptor = None
        self.descriptor = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        return self.descriptor, os.fstat(self.descriptor).st_size

    def _rotate(self) -> None:
        older = [self.path, *(Path(f"{self.path}.{age}") for age in range(1, OLDER_FILES + 1))]
        for newer, old in reversed(list(pairwise(older))):
            if newer.exists():
                newer.replace(old)
