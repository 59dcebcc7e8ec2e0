"""`longrope factors library`: the factor files that we ship."""

from typing import Annotated

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import schema, shipped

library_app = typer.Typer(help="Find the factor files that we ship.", no_args_is_help=True)


@library_app.command("list")
def list_files() -> None:
    """Print each file's name, model, methods and lengths."""
    from rich.console import Console
    from rich.table import Table

    with one_sentence():
        table = Table("name", "for the weights of", "method", "max_length", show_lines=True)
        for name in shipped.names():
            factor_file = schema.load(shipped.path(name))
            # Every method once, in the order of the sets.
            methods = dict.fromkeys(factor_set.provenance.method for factor_set in factor_file.sets)
            table.add_row(
                name,
                factor_file.model.name,
                ", ".join(methods),
                ", ".join(_thousands(factor_set.max_length) for factor_set in factor_file.sets),
            )
        Console().print(table)


@library_app.command("path")
def print_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name that `list` prints.")],
) -> None:
    """Print the path of a shipped factor file, for options such as --factors."""
    with one_sentence():
        typer.echo(shipped.path(name))


def _thousands(length: int) -> str:
    return f"{length // 1024}k" if length % 1024 == 0 else str(length)
