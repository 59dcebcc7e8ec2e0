"""`longrope factors corpus`: long texts for searching and evaluating."""

from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import AppOfFiles, one_sentence
from longrope_factors.corpora import debian

corpus_app = AppOfFiles(help="Long texts for searching and evaluating.", no_args_is_help=True)


@corpus_app.callback()
def _group() -> None:
    """Long texts for searching and evaluating."""


@corpus_app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the texts.")],
) -> None:
    """Fetch Austen's novels, Newton's Opticks and the Jargon File, with a manifest."""
    with one_sentence():
        for path in debian.fetch(folder):
            typer.echo(path)
