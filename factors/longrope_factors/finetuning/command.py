"""`longrope factors finetune`: train a model's weights under a factor set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.finetuning.settings import Settings, TrainingSettings
from longrope_factors.settings import command, options, read, typed

if TYPE_CHECKING:
    from longrope_factors.finetuning.training import Result

SECTIONS = {"finetune": TrainingSettings}
Command = command(SECTIONS, {})


@options(Settings, "dtype", "device")
@options(TrainingSettings, "positions", "window", "retrieval_share", "distill")
@options(TrainingSettings, "steps", "learning_rate", "batch", "lora", "merge")
def finetune(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (safetensors).")],
    factors: Annotated[
        Path, typer.Option(metavar="FILE", help="Factor file whose set for N tokens is used.")
    ],
    length: Annotated[int, typer.Option(metavar="N", help="Length to train for, in tokens.")],
    corpus: Annotated[
        list[Path], typer.Option(metavar="TEXTFILE", help="UTF-8 text; may be repeated.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="New folder for the result.")
    ],
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXTFILE",
            help="Text that is asked about: the weights that find most facts are kept.",
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="TOML", help="More settings, under [finetune].")
    ] = None,
    **options: Any,
) -> None:
    """Fine-tune a model under the factor set that covers N tokens.

    Write an adapter and the factor file that names it, or a model directory. To resume an
    interrupted run from its last checkpoint, run the same command again.
    """
    with one_sentence():
        given = {} if settings is None else read(settings, SECTIONS)["finetune"]
        chosen = Settings.made(
            {
                "model": model,
                "factors": factors,
                "length": length,
                "corpus": tuple(corpus),
                "output": output,
                "held_out": held_out,
                **given,
                **typed(options, Settings),
            }
        )
        from longrope_factors.finetuning import progress, training

        with progress.shown(chosen) as watcher:
            _say(training.run(chosen, watcher))


def _say(result: "Result") -> None:
    from longrope_factors.finetuning import journal

    if not result.steps:
        typer.echo(f"{result.output}: this run was finished before; its loss.jsonl is gone.")
        return
    first, last = result.steps[0], result.steps[-1]
    seconds = sum(step.seconds for step in result.steps)
    speed = sum(step.tokens for step in result.steps) / seconds
    typer.echo(
        f"{result.output}: {last.step} steps, loss {first.loss:.4f} at the first and "
        f"{last.loss:.4f} at the last; {seconds:,.0f} s, {speed:,.0f} tokens/s."
    )
    kept = journal.best(result.steps)
    if kept is not None:
        typer.echo(
            f"The weights are those of step {kept.step}, which answered {kept.found:.0%} of the "
            f"held-out questions (loss {kept.held_out:.4f})."
        )
