"""`longrope factors finetune`: train a model's weights under a factor set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.finetuning.settings import Settings

if TYPE_CHECKING:
    from longrope_factors.finetuning.training import Result


def finetune(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (safetensors).")],
    factors: Annotated[Path, typer.Option(metavar="FILE", help="Factor file; its set for N.")],
    length: Annotated[int, typer.Option(metavar="N", help="Tokens to train for.")],
    corpus: Annotated[list[Path], typer.Option(metavar="TEXTFILE", help="UTF-8; repeatable.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="New folder.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 400,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak; linear warm-up and decay. Default: 2e-5, with --lora 2e-4."),
    ] = None,
    warmup: Annotated[int, typer.Option(help="Steps of warm-up.")] = 20,
    batch: Annotated[int, typer.Option(help="Sequences a step, over all processes.")] = 32,
    lora: Annotated[
        int | None,
        typer.Option(metavar="RANK", help="Train an adapter; without it, all weights."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="With --lora, write a whole model with it merged.")
    ] = False,
    norms: Annotated[
        bool, typer.Option("--norms", help="With --lora and --merge, train the norms too.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="With --lora and --merge, train embeddings too.")
    ] = False,
    positions: Annotated[
        str, typer.Option(help="consecutive, or skip: windows of W tokens that lie as if in N.")
    ] = "consecutive",
    window: Annotated[
        int | None,
        typer.Option(metavar="W", help="Tokens of a sequence with --positions skip."),
    ] = None,
    full_share: Annotated[
        float, typer.Option(metavar="F", help="Share of whole sequences of N with skip.")
    ] = 0.0,
    retrieval_share: Annotated[
        float, typer.Option(metavar="F", help="Share of sequences that are retrieval exercises.")
    ] = 0.0,
    distill: Annotated[
        bool,
        typer.Option("--distill", help="Teach text by the untuned model, not by its own words."),
    ] = False,
    mixed: Annotated[
        float,
        typer.Option(metavar="F", help="Share of tokens in short documents, old rotation."),
    ] = 0.0,
    passkey_share: Annotated[
        float, typer.Option(hidden=True, help="Share of sequences that are passkey prompts.")
    ] = 0.0,
    separator: Annotated[
        str | None, typer.Option(help="What parts documents in a file; without it, none does.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes the order of the data and the start.")] = 0,
    dtype: Annotated[
        str | None,
        typer.Option(help="bfloat16 or float32; without it, float32 on a CPU."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; without it, a GPU where there is one.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="TEXTFILE", help="Keep the weights that find most facts in this."),
    ] = None,
    check_every: Annotated[
        int | None, typer.Option(help="Steps between such checks; without it, about six a run.")
    ] = None,
    check_length: Annotated[
        int | None,
        typer.Option(help="Tokens of their prompts. Default: N, on a CPU 1.5 original lengths."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 20,
    context_parallel: Annotated[
        int, typer.Option(metavar="K", help="GPUs that share one sequence (accelerate launch).")
    ] = 1,
) -> None:
    """Fine-tune a model under the factor set that covers N tokens.

    Writes an adapter and the factor file that names it, or a model directory. The same command
    again goes on from the last checkpoint after any end.
    """
    with one_sentence():
        settings = Settings(
            model=model,
            factors=factors,
            length=length,
            corpus=tuple(corpus),
            output=output,
            steps=steps,
            learning_rate=learning_rate,
            warmup=warmup,
            batch=batch,
            lora=lora,
            merge=merge,
            norms=norms,
            embeddings=embeddings,
            positions=positions,
            window=window,
            full_share=full_share,
            retrieval_share=retrieval_share,
            distill=distill,
            mixed=mixed,
            passkey_share=passkey_share,
            separator=separator,
            seed=seed,
            dtype=dtype,
            device=device,
            held_out=held_out,
            check_every=check_every,
            check_length=check_length,
            checkpoint_every=checkpoint_every,
            context_parallel=context_parallel,
        )
        from longrope_factors.finetuning import progress, training

        with progress.shown(settings) as watcher:
            _say(training.run(settings, watcher))


def _say(result: "Result") -> None:
    from longrope_factors.finetuning import journal

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
