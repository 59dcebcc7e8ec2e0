"""`longrope factors`: make factor files, search, fine-tune, measure, convert."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from longrope_factors.cli_errors import AppOfFiles, one_sentence
from longrope_factors.corpora.command import corpus_app
from longrope_factors.evaluating.command import evaluate_app
from longrope_factors.extension.command import extend
from longrope_factors.factor_file import hf, methods, model_directory, schema
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorFile
from longrope_factors.finetuning import command as finetuning
from longrope_factors.formats import command as formats
from longrope_factors.library_command import library_app
from longrope_factors.search import command as searching

app = AppOfFiles(
    help="Make factor files, search, fine-tune, measure, convert.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(corpus_app, name="corpus")
app.add_typer(library_app, name="library")
app.command(cls=searching.Command)(searching.search)
app.command(cls=finetuning.Command)(finetuning.finetune)
app.command()(extend)
app.command()(formats.export)
app.command("import")(formats.import_)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Factor file.")]
ModelOption = Annotated[
    Path | None, typer.Option("--model", metavar="DIR", help="Model directory (config.json).")
]


@app.command()
def make(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (config.json).")],
    method: Annotated[str, typer.Option(help="original, pi, ntk or yarn.")],
    length: Annotated[
        list[int],
        typer.Option(min=1, max=2**31 - 1, help="max_length of a set; may be repeated."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Factor file to write.")],
    truncate: Annotated[
        bool,
        typer.Option(
            "--truncate",
            help="Round the ends of yarn's ramp to whole pairs, as transformers and vLLM do.",
        ),
    ] = False,
) -> None:
    """Write a factor file of an analytic method, with one set for each --length.

    The set for the model's original length is the original set: the model's own rotation. If the
    config already scales that rotation, the method's factors are multiplied by its factors, and a
    sentence on stderr says so.
    """
    with one_sentence():
        base = model_directory.base_of(model)
        factor_file = _made(base, method, length, truncate)
        schema.save(factor_file, output)
        if base.note:
            typer.echo(base.note, err=True)
        typer.echo(_summary(output, factor_file))


@app.command()
def validate(file: FileArgument, model: ModelOption = None) -> None:
    """Check a factor file and its adapters; with --model, also that they fit that model."""
    with one_sentence():
        factor_file = _checked(file, model)
        typer.echo(_summary(file, factor_file))


@app.command()
def show(
    file: FileArgument,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw factors and wavelengths.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Print the sets of a factor file."""
    with one_sentence():
        factor_file = schema.load(file)
        if plot is not None:
            from longrope_factors.plot import draw

            draw(factor_file, plot)
        if as_json:
            typer.echo(json.dumps(_described(factor_file)))
        else:
            _print_table(factor_file)


@app.command()
def overrides(file: FileArgument, model: ModelOption = None) -> None:
    """Print the value of `vllm serve --hf-overrides` that serves a model with a factor file.

    With --model, check that the factor file and its adapters fit the model, and keep the rope
    parameters that no factors change.
    """
    with one_sentence():
        factor_file = _checked(file, model)
        config = None if model is None else hf.read_config(model)
        typer.echo(json.dumps(hf.hf_overrides(factor_file, file, config)))


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of factor files."""
    typer.echo(json.dumps(schema.json_schema(), indent=2))


def _made(base: Base, name: str, lengths: list[int], truncate: bool) -> FactorFile:
    method = methods.named(name)
    if truncate and method != "yarn":
        raise UsageError(
            f"--truncate is about yarn's ramp, but --method is {method}: leave it out."
        )
    original = base.identity.original_max_position_embeddings
    if min(lengths) < original:
        raise UsageError(
            f"--length {min(lengths)} is an extension ratio below 1: it should be at least the "
            f"original length, {original}" + _because(base) + "."
        )
    sets = [
        base.factor_set("original" if max_length == original else method, max_length, truncate)
        for max_length in sorted(lengths)
    ]
    return schema.build(base.identity, sets)


def _because(base: Base) -> str:
    """Why the original length of a model is not the one before its config's scaling."""
    if base.scaling is None:
        return ""
    return (
        f", because {base.scaling}; to make factors for the plain rotation, remove rope_type "
        f"and its fields from {base.scaling.where}"
    )


def _checked(file: Path, model: Path | None) -> FactorFile:
    factor_file = schema.load(file)
    if model is not None:
        model_directory.base_of(model).check(factor_file, file)
    adapter_files.check(factor_file, file, model)
    return factor_file


def _summary(file: Path, factor_file: FactorFile) -> str:
    sets = ", ".join(
        f"{factor_set.max_length} {factor_set.provenance.method}"
        + (f" with an adapter of rank {factor_set.adapter.rank}" if factor_set.adapter else "")
        for factor_set in factor_file.sets
    )
    return f"{file}: {len(factor_file.sets)} sets for {factor_file.model.name}: {sets}."


def _described(factor_file: FactorFile) -> dict[str, Any]:
    description = factor_file.model_dump(mode="json")
    for record, factor_set in zip(description["sets"], factor_file.sets, strict=True):
        record["fingerprint"] = factor_set.fingerprint
    return description


def _print_table(factor_file: FactorFile) -> None:
    from rich.console import Console
    from rich.table import Table

    model = factor_file.model
    table = Table(
        title=f"{model.name} ({model.architecture}), rotary_dim {model.rotary_dim}, "
        f"rope_theta {model.rope_theta:g}, original length "
        f"{model.original_max_position_embeddings:,}"
    )
    for header in ("max_length", "ratio", "factors", "start\ntokens", "attention\nfactor"):
        table.add_column(header, justify="right")
    table.add_column("method")
    for factor_set in factor_file.sets:
        table.add_row(
            f"{factor_set.max_length:,}",
            f"{factor_set.max_length / model.original_max_position_embeddings:g}",
            f"{min(factor_set.factors):.4g} to {max(factor_set.factors):.4g}",
            str(factor_set.start_tokens),
            f"{factor_set.attention_factor:.4f}",
            factor_set.provenance.method,
        )
    Console().print(table)
    for factor_set in factor_file.sets:
        if factor_set.adapter is not None:
            typer.echo(
                f"{factor_set.max_length:,}: adapter of rank {factor_set.adapter.rank} in "
                f"{factor_set.adapter.folder}, sha256 {factor_set.adapter.sha256}"
            )


if __name__ == "__main__":
    app()
