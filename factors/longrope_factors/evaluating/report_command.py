"""`longrope factors evaluate report`: one page about a model's evaluations."""

from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import one_sentence


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...", help="Results files of perplexity, passkey and retrieval."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")],
    lm_eval: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="BEFORE AFTER",
            help="lm-eval's results_*.json for short tasks, before and after the extension.",
        ),
    ] = None,
) -> None:
    """Write a page about a model's evaluations: numbers, plots, effective length, commands.

    The page is a single file that includes its plots and loads nothing. It shows the change at
    short lengths by the shortest length in the results and by lm-eval's tasks.
    """
    with one_sentence():
        from longrope_factors.evaluating.report import page

        page.write(results, output, lm_eval)
        typer.echo(f"{output}")
