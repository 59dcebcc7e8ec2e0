"""`longrope factors evaluate report`: one page about a model's evaluations."""

from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import one_sentence


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="Results of perplexity, passkey and retrieval."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")],
    lm_eval: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="BEFORE AFTER", help="lm-eval's results of short tasks, results_*.json."
        ),
    ] = None,
) -> None:
    """Write one page of a model's evaluations: numbers, pictures, effective length, commands.

    The page is one file with its pictures in it and asks no address for anything. The change at
    short lengths is that of the shortest length in the results, and of lm-eval's tasks.
    """
    with one_sentence():
        from longrope_factors.evaluating.report import page

        page.write(results, output, lm_eval)
        typer.echo(f"{output}")
