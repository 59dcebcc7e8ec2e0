"""`longrope factors evaluate`: measure factor sets on a model and texts."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longrope_factors import hf, methods, schema
from longrope_factors.cli_errors import one_sentence
from longrope_factors.schema import FactorFile, FactorSet, ModelIdentity

if TYPE_CHECKING:
    from longrope_factors.evaluation import Evaluation

evaluate_app = typer.Typer(help="Measure factor sets on a model and texts.", no_args_is_help=True)


@evaluate_app.callback()
def _group() -> None:
    """Measure factor sets on a model and texts."""


@evaluate_app.command()
def perplexity(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (safetensors).")],
    corpus: Annotated[list[Path], typer.Option(metavar="TEXTFILE", help="UTF-8 text.")],
    length: Annotated[list[int], typer.Option(min=2, max=2**31 - 1, help="Tokens to read.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Results, JSON lines.")],
    method: Annotated[
        list[str] | None, typer.Option(help="original, pi, ntk or yarn; may be repeated.")
    ] = None,
    factors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Factor file; its set for the length.")
    ] = None,
) -> None:
    """Perplexity of a window and of its last 1,024 tokens, for every method, text and length.

    --corpus, --length and --method may be repeated. Evaluations that are in the results file
    already are not run again.
    """
    with one_sentence():
        identity = hf.model_identity(hf.read_config(model), model.resolve().name)
        factor_file = None if factors is None else schema.load(factors)
        if factor_file is not None:
            schema.check_model(factor_file, identity, str(factors))
        planned = [
            (each, label, factor_set)
            for each in length
            for label, factor_set in _factor_sets(method or [], factor_file, identity, each)
        ]
        if not planned:
            raise ValueError("Nothing to evaluate: give --method, --factors or both.")
        _evaluate(model, corpus, planned, output)


@evaluate_app.command()
def choose(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (config.json).")],
    name: Annotated[str, typer.Option(help="The model's name in the factor file.")],
    results: Annotated[Path, typer.Option(metavar="FILE", help="Results of `perplexity`.")],
    length: Annotated[list[int], typer.Option(min=1, max=2**31 - 1, help="max_length of a set.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Factor file to write.")],
) -> None:
    """Write a factor file of the analytic method that measured best at each length."""
    with one_sentence():
        from longrope_factors import choice, evaluation

        identity = hf.model_identity(hf.read_config(model), name)
        factor_file = choice.best_measured(evaluation.finished(results), identity, length)
        schema.save(factor_file, output)
        for each in factor_file.sets:
            typer.echo(f"{each.max_length}: {each.provenance.source}.")


def _factor_sets(
    names: list[str], factor_file: FactorFile | None, identity: ModelIdentity, length: int
) -> list[tuple[str, FactorSet]]:
    sets = [(name, methods.factor_set(methods.named(name), identity, length)) for name in names]
    if factor_file is not None:
        chosen = factor_file.sets[factor_file.select(length)]
        sets.append((f"{chosen.provenance.method} (file)", chosen))
    return sets


def _evaluate(
    model_dir: Path,
    corpus: list[Path],
    planned: list[tuple[int, str, FactorSet]],
    output: Path,
) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from longrope_factors import evaluation, loading, texts

    done = {each.key: each for each in evaluation.finished(output)}
    # Tokens first: a text that is too short is said before the weights are loaded.
    read = texts.read(corpus, model_dir, max(length for length, *_ in planned))
    loaded = loading.load(model_dir)
    rows = []
    layers = loaded.model.config.num_hidden_layers
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for text in read:
            for length, label, factor_set in planned:
                key = (loaded.weights_sha256, text.sha256, length, factor_set.fingerprint)
                if key not in done:
                    task = progress.add_task(f"{text.name} {length} {label}", total=layers)
                    done[key] = evaluation.evaluate(
                        loaded, text, length, label, factor_set, partial(progress.advance, task)
                    )
                    evaluation.append(output, done[key])
                rows.append((label, done[key]))
    _print_table(rows)


def _print_table(rows: list[tuple[str, "Evaluation"]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("text", "tokens", "method", "perplexity", "last 1,024")
    for column in table.columns[1:2] + table.columns[3:]:
        column.justify = "right"
    for label, each in rows:
        table.add_row(
            each.corpus,
            f"{each.length:,}",
            label,
            f"{each.perplexity:.2f}",
            f"{each.perplexity_last_1024:.2f}",
        )
    Console().print(table)
