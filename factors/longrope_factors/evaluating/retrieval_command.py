"""`longrope factors evaluate retrieval`: questions about facts in long documents."""

import json
from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.evaluating.contenders import planned
from longrope_factors.evaluating.options import (
    DeviceOption,
    DtypeOption,
    FactorsOption,
    JsonOption,
    LengthOption,
    MethodOption,
    ModelOption,
    OutputOption,
    PlotOption,
)
from longrope_factors.evaluating.retrieval.prompts import Form
from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import compute, tokenizers


def retrieval(
    model: ModelOption,
    length: LengthOption,
    output: OutputOption,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task to measure; may be repeated. Default: all but single_key."),
    ] = None,
    method: MethodOption = None,
    factors: FactorsOption = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TEXTFILE",
            help="UTF-8 book to use as filler; may be repeated. Default: sentences about nothing.",
        ),
    ] = None,
    form: Annotated[
        Form, typer.Option(help="Plain text, or the model's own chat template.")
    ] = "plain",
    facts: Annotated[
        int, typer.Option(min=1, max=100, help="Facts in a document, at even depths.")
    ] = 10,
    documents: Annotated[int, typer.Option(min=1, help="Documents for each task and length.")] = 1,
    short: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Length whose score the effective length is relative to. "
            "Default: 4,096 or half the original length, whichever is less.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed that draws the documents.")] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = "bfloat16",
    as_json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """Measure which facts the model finds in long documents, by task, length and method.

    Each document is read once for all its questions. The effective length is the longest up to
    which the score is at least 85 % of the score at --short. Results that are already in the file
    are not measured again.
    """
    with one_sentence():
        compute.check_here(device)
        from longrope_factors.evaluating import measuring
        from longrope_factors.evaluating.retrieval import filler, scores, tasks
        from longrope_factors.evaluating.retrieval.measurement import (
            Material,
            measurements,
            short_length,
        )
        from longrope_factors.evaluating.retrieval.prompts import Prompts
        from longrope_factors.evaluating.retrieval.results import Asking

        chosen = [tasks.named(name) for name in dict.fromkeys(task or tasks.DEFAULT)]
        original = model_directory.identity_of(model).original_max_position_embeddings
        least = short or short_length(original)
        if min(length) < least:
            raise UsageError(
                f"--length {min(length)} is shorter than the {least} tokens that the effective "
                f"length is relative to: --short should be {min(length)} or less."
            )
        lengths = sorted({least, *length})
        compared = planned(model, method, factors, lengths)
        weights_sha256 = model_directory.weights_sha256(model)
        books = filler.of_books(corpus or [])
        prompts = Prompts(tokenizers.of(model), form)
        material = Material(prompts, books, facts, seed)
        for chosen_task in chosen:
            material.fitted(chosen_task, least, 0)
        wanted = measurements(material, weights_sha256, dtype, chosen, compared, documents)
        askings = measuring.run(wanted, output, Asking, model, device, dtype)
        if plot is not None:
            from longrope_factors.evaluating.plot import draw_retrieval

            draw_retrieval(askings, plot)
        if as_json:
            effective = scores.effective_lengths(askings, least)
            results = [asking.model_dump(mode="json") for asking in askings]
            typer.echo(json.dumps({"effective_length": effective, "results": results}, indent=2))
        else:
            from longrope_factors.evaluating.tables import print_retrieval

            print_retrieval(askings, least)
