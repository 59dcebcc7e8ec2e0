"""`longrope factors evaluate retrieval`: questions about facts in long documents."""

import json
from functools import partial
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
from longrope_factors.models import compute, loading


def retrieval(
    model: ModelOption,
    length: LengthOption,
    output: OutputOption,
    task: Annotated[
        list[str] | None,
        typer.Option(help="One of the tasks; repeat. Without it, all but single_key."),
    ] = None,
    method: MethodOption = None,
    factors: FactorsOption = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(metavar="TEXTFILE", help="Books as filler; repeat. Without it, noise."),
    ] = None,
    form: Annotated[
        Form, typer.Option(help="Plain text, or the model's own chat template.")
    ] = "plain",
    facts: Annotated[
        int, typer.Option(min=1, max=100, help="Facts of a document, at even depths.")
    ] = 10,
    documents: Annotated[int, typer.Option(min=1, help="Documents of each task and length.")] = 1,
    short: Annotated[
        int | None,
        typer.Option(
            min=2, help="Length of the model's own short score; 4,096 or half its original length."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the documents.")] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = "bfloat16",
    as_json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """Which facts the model finds in long documents, for every task, length and method.

    Each document is read once for all of its questions. The effective length is the longest up to
    which the score keeps 85 % of what it is at --short. Results that are in the file already are
    not measured again.
    """
    with one_sentence():
        compute.check_here(device)
        from transformers import AutoTokenizer

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
        prompts = Prompts(AutoTokenizer.from_pretrained(model), form)
        material = Material(prompts, books, facts, seed)
        for one in chosen:
            material.fitted(one, least, 0)
        wanted = measurements(material, weights_sha256, dtype, chosen, compared, documents)
        load = partial(loading.load, model, device, dtype)
        found = measuring.run(wanted, output, Asking, load)
        if plot is not None:
            from longrope_factors.evaluating.plot import draw_retrieval

            draw_retrieval(found, plot)
        if as_json:
            effective = scores.effective_lengths(found, least)
            results = [asking.model_dump(mode="json") for asking in found]
            typer.echo(json.dumps({"effective_length": effective, "results": results}, indent=2))
        else:
            from longrope_factors.evaluating.tables import print_retrieval

            print_retrieval(found, least)
