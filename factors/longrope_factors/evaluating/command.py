"""`longrope factors evaluate`: measure a model under factor sets, on texts or with questions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from longrope_factors.cli_errors import AppOfFiles, one_sentence
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
from longrope_factors.evaluating.report_command import report
from longrope_factors.evaluating.results import Result
from longrope_factors.evaluating.retrieval_command import retrieval
from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import compute, tokenizers

evaluate_app = AppOfFiles(
    help="Measure a model under factor sets, on texts or with questions.", no_args_is_help=True
)

evaluate_app.command()(retrieval)
evaluate_app.command()(report)


@evaluate_app.command()
def perplexity(
    model: ModelOption,
    length: LengthOption,
    output: OutputOption,
    corpus: Annotated[
        list[Path] | None, typer.Option(metavar="TEXTFILE", help="UTF-8 text; may be repeated.")
    ] = None,
    method: MethodOption = None,
    factors: FactorsOption = None,
    window: Annotated[
        int | None, typer.Option(min=2, help="Tokens in view at a time. Default: all.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Step of the window in tokens. Default: 256.")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "bfloat16",
    as_json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """Measure perplexity on the first tokens of each text, and on their last 1,024.

    With --window W, windows of W tokens are read separately, and each gives the losses of its last
    --stride tokens; the factor set is then the one for W. Results that are already in the file are
    not measured again.
    """
    with one_sentence():
        compute.check_here(device)
        from longrope_factors.evaluating import evaluation, measuring
        from longrope_factors.models import texts

        views = {tokens: evaluation.view(tokens, window, stride) for tokens in length}
        compared = planned(model, method, factors, [view[0] for view in views.values()])
        model_directory.weights(model)
        read = texts.read(corpus or [], model, max(length))
        weights_sha256 = model_directory.weights_sha256(model)
        wanted = [
            evaluation.measurement(weights_sha256, dtype, text, tokens, view, served)
            for text in read
            for tokens, view in views.items()
            for served in compared[view[0]]
        ]
        evaluations = measuring.run(wanted, output, evaluation.Evaluation, model, device, dtype)
        if plot is not None:
            from longrope_factors.evaluating.plot import draw_perplexity

            draw_perplexity(evaluations, plot)
        if as_json:
            _print_json(evaluations)
        else:
            from longrope_factors.evaluating.tables import print_perplexity

            print_perplexity(evaluations)


@evaluate_app.command()
def passkey(
    model: ModelOption,
    length: LengthOption,
    output: OutputOption,
    method: MethodOption = None,
    factors: FactorsOption = None,
    depth: Annotated[
        list[float] | None,
        typer.Option(help="Place of the key, from 0 (beginning) to 1 (end); may be repeated."),
    ] = None,
    depths: Annotated[
        int | None,
        typer.Option(min=1, help="Number of even depths, in place of --depth. Default: 10."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Keys for each length and depth.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed that draws the keys.")] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = "bfloat16",
    as_json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """Measure whether the model finds a number in a long text, by length, depth and method.

    A key counts as found if greedy decoding gives it. Results that are already in the file are not
    measured again.
    """
    with one_sentence():
        compute.check_here(device)
        from longrope_factors.evaluating import measuring
        from longrope_factors.evaluating import passkey as task

        if depth and depths:
            raise UsageError("Give --depth or --depths, not both.")
        compared = planned(model, method, factors, length)
        weights_sha256 = model_directory.weights_sha256(model)
        tokenizer = tokenizers.of(model)
        places = depth or task.even_depths(depths or 10)
        for place in places:
            task.prompt(tokenizer, min(length), place, task.GREATEST_KEY)
        wanted = [
            task.measurement(tokenizer, weights_sha256, dtype, tokens, place, trial, seed, served)
            for tokens in dict.fromkeys(length)
            for served in compared[tokens]
            for place in places
            for trial in range(trials)
        ]
        retrievals = measuring.run(wanted, output, task.Retrieval, model, device, dtype)
        if plot is not None:
            from longrope_factors.evaluating.plot import draw_passkey

            draw_passkey(retrievals, plot)
        if as_json:
            _print_json(retrievals)
        else:
            from longrope_factors.evaluating.tables import print_passkey

            print_passkey(retrievals)


@evaluate_app.command(
    hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def choose() -> None:
    """Say that there is no such command any more."""
    with one_sentence():
        raise UsageError(
            "evaluate choose is no command any more: read the results (evaluate report) and write "
            "the sets of the best method with `longrope factors make --method METHOD`."
        )


def _print_json(results: Sequence[Result]) -> None:
    typer.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
