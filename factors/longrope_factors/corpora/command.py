"""`longrope factors corpus`: long texts to search and evaluate on."""

from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import AppOfFiles, one_sentence
from longrope_factors.corpora import debian

corpus_app = AppOfFiles(help="Long texts to search and evaluate on.", no_args_is_help=True)


@corpus_app.callback()
def _group() -> None:
    """Long texts to search and evaluate on."""


@corpus_app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the texts go.")],
) -> None:
    """Fetch Austen's novels, Newton's Opticks and the Jargon File, with a manifest."""
    with one_sentence():
        for path in debian.fetch(folder):
            typer.echo(path)
