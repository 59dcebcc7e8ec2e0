"""What a user's mistake looks like: one sentence on stderr and exit status 2."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import typer

from longrope_factors.factor_file.errors import UsageError


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a UsageError or OSError inside into one line on stderr and exit status 2."""
    try:
        yield
    except (UsageError, OSError) as error:
        typer.echo(f"longrope: {' '.join(_said(error).split())}", err=True)
        raise typer.Exit(2) from None


class AppOfFiles(typer.Typer):
    """Commands that say themselves which file they cannot read.

    typer would look whether a file can be read before the command begins, and answer for one that
    cannot with how the command is used.
    """

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """As typer's."""
        registered = super().command(*args, **kwargs)

        def decorated(function: Callable[..., Any]) -> Any:
            for annotation in function.__annotations__.values():
                for parameter in getattr(annotation, "__metadata__", ()):
                    parameter.readable = False
            return registered(function)

        return decorated


def _said(error: UsageError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be read or written: {error.strerror}."
    return str(error)
