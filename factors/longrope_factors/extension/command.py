"""`longrope factors extend`: run the papers' whole recipe from one file."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import hf

if TYPE_CHECKING:
    from longrope_factors.extension.cost import Cost


def extend(
    plan: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.")],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the steps and the most that each may cost; run none."
        ),
    ] = False,
    until: Annotated[
        str | None, typer.Option(metavar="STEP", help="Stop after this step, such as 1-search.")
    ] = None,
    teraflops: Annotated[
        float, typer.Option(min=1e-6, help="The machine's TFLOP/s, for the hours of --dry-run.")
    ] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run, print JSON.")] = False,
) -> None:
    """Extend a model: search, fine-tune, search for a longer length, search the short sets again.

    Each step's result is checked on held-out texts before the next step starts. To resume after an
    interruption, run the same command again.
    """
    with one_sentence():
        from longrope_factors.extension import cost, recipe

        read = recipe.load(plan)
        if dry_run:
            _print(cost.estimated(read, hf.read_config(read.model)), teraflops, as_json)
            return
        from longrope_factors.extension.run import run

        for done in run(read, until):
            measured = ", ".join(f"{name} {value:.4f}" for name, value in done.measured.items())
            what = "facts found at" if done.name == "retrieval" else "held-out perplexity"
            typer.echo(f"{done.name}: done; {what} {measured}.")
        if until is None:
            typer.echo(f"{read.output / 'model'}: the extended model with all its factor sets.")


def _print(costs: list["Cost"], teraflops: float, as_json: bool) -> None:
    hours = [cost.flops / teraflops / 1e12 / 3600 for cost in costs]
    if as_json:
        rows = [
            {**dataclasses.asdict(cost), "hours": hour}
            for cost, hour in zip(costs, hours, strict=True)
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "step", "what", "tokens", "readings", "PFLOP", f"hours at {teraflops:g} TFLOP/s",
        title="At most; racing makes searches cheaper", show_footer=True,
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for cost, hour in zip(costs, hours, strict=True):
        petaflop = f"{cost.flops / 1e15:,.2f}"
        table.add_row(
            cost.step, cost.what, f"{cost.length:,}", f"{cost.readings:,}", petaflop, f"{hour:.2f}"
        )
    table.columns[4].footer = f"{sum(cost.flops for cost in costs) / 1e15:,.2f}"
    table.columns[5].footer = f"{sum(hours):.2f}"
    Console().print(table)
