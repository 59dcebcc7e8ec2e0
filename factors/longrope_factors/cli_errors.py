"""What a user's mistake looks like: one sentence on stderr and exit status 2."""

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a ValueError or OSError inside into one line on stderr and exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(2) from None
