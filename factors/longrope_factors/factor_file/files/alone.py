"""One run at a time on a file or a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from longrope_factors.factor_file.errors import UsageError


@contextlib.contextmanager
def at_work_on(path: Path) -> Iterator[None]:
    """Keep other runs away from the folder or file `path` until the block or the process ends.

    A missing file is made, and removed afterwards if nothing was written to it. Raises UsageError,
    naming `path`, if another run is at work on it.
    """
    descriptor = _locked(path)
    try:
        yield
    finally:
        if path.is_file() and not path.stat().st_size:
            path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    """An open descriptor that has the lock of what is at `path`."""
    while True:
        if path.is_dir():
            descriptor = os.open(path, os.O_RDONLY)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Some network file systems have no locks.
            with contextlib.suppress(OSError):
                _lock(descriptor, path)
            if _is_at(descriptor, path):
                return descriptor
        except UsageError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the run that had the lock has removed it since


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{path}: another run is at work on it; wait until it has ended, or name another place "
            "for this one."
        ) from None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
