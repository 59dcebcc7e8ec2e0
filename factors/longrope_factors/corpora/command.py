"""`longrope factors corpus`: long texts for searching, training and evaluating."""

from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import AppOfFiles, one_sentence
from longrope_factors.corpora import debian

corpus_app = AppOfFiles(
    help="Fetch long texts for searching, training and evaluating.", no_args_is_help=True
)


@corpus_app.callback()
def _group() -> None:
    """Fetch long texts for searching, training and evaluating."""


@corpus_app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the texts.")],
) -> None:
    """Fetch long texts from Debian packages, and write a manifest of their hashes.

    The texts are Austen's novels, Newton's Opticks, the Jargon File, the C++ Annotations and the
    Debian Reference.
    """
    with one_sentence():
        for path in debian.fetch(folder):
            typer.echo(path)
