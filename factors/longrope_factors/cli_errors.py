"""Report a user's mistake as one sentence on stderr, with exit status 2."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import Any

import typer

from longrope_factors.factor_file.errors import UsageError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a UsageError or OSError in the block into one line on stderr and exit status 2.

    So it is with a GPU whose memory is too small, with exit status 1.
    """
    try:
        yield
    except (UsageError, OSError) as error:
        typer.echo(f"longrope: {' '.join(_said(error).split())}", err=True)
        raise typer.Exit(2) from None
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which need not be imported here
            raise
        typer.echo(
            "longrope: the GPU's memory is too small for this model at this length: take a larger "
            "GPU, fewer tokens or a smaller batch. What was finished is kept: the same command "
            "goes on from there.",
            err=True,
        )
        raise typer.Exit(1) from None


class AppOfFiles(typer.Typer):
    """Commands that report themselves which file they cannot read.

    By default, typer checks whether a file is readable before the command starts, and answers with
    a usage message if it is not.
    """

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Register a command, as `typer.Typer.command` does."""
        registered = super().command(*args, **kwargs)

        def decorated(function: Callable[..., Any]) -> Any:
            for annotation in function.__annotations__.values():
                for parameter in getattr(annotation, "__metadata__", ()):
                    parameter.readable = False
            return registered(function)

        return decorated


def without_room(error: OSError) -> str | None:
    """The sentence for a file or stdout that was open and cannot be written; None for others."""
    if error.filename is None and error.errno in _NO_ROOM:
        return f"The output cannot be written: {error.strerror}."
    return None


def _said(error: UsageError | OSError) -> str:
    if isinstance(error, UsageError):
        return str(error)
    if error.filename is not None:
        return f"{error.filename}: cannot be read or written: {error.strerror}."
    return without_room(error) or str(error)
