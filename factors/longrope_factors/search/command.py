"""`longrope factors search`: find a factor set by evolution."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import bounds, model_directory, numbers
from longrope_factors.factor_file.adapters import adapter
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorFile, FactorSet
from longrope_factors.models import compute
from longrope_factors.models.compute import Dtype

Objective = Literal["perplexity", "needle"]
Shape = Literal["monotone", "piecewise", "critical"]


def search(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (safetensors).")],
    length: Annotated[int, typer.Option(min=2, max=2**31 - 1, help="Target length in tokens.")],
    corpus: Annotated[list[Path], typer.Option(metavar="TEXTFILE", help="UTF-8 text; repeat.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Factor file to write.")],
    log: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="Evaluations; default OUTPUT.jsonl.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Picture; default OUTPUT.png.")
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows of each text.")] = 1,
    windows_of: Annotated[
        int | None,
        typer.Option(metavar="W", help="Read each as 16 windows of W tokens that skip to LENGTH."),
    ] = None,
    objective: Annotated[
        Objective, typer.Option(help="All tokens' perplexity, or that of needles' answers.")
    ] = "perplexity",
    shape: Annotated[
        Shape, typer.Option(help="monotone, piecewise (two cuts) or critical (LongRoPE2).")
    ] = "monotone",
    critical_pair: Annotated[
        int | None, typer.Option(help="Fix the critical dimension pair; else it is searched.")
    ] = None,
    population: Annotated[int, typer.Option(help="P: first population.")] = 64,
    mutations: Annotated[int, typer.Option(help="N1: mutations an iteration.")] = 16,
    crossovers: Annotated[int, typer.Option(help="N2: crossovers an iteration.")] = 16,
    parents: Annotated[int, typer.Option(help="k: parents of the next iteration.")] = 32,
    iterations: Annotated[int, typer.Option(help="T: iterations.")] = 40,
    chance: Annotated[float, typer.Option(help="p: chance that a gene mutates.")] = 0.3,
    warp: Annotated[
        float, typer.Option(help="Share of mutations that move the whole curve; 0: the papers'.")
    ] = 0.5,
    step: Annotated[float, typer.Option(min=1e-6, help="Grid of factors.")] = 0.01,
    max_factor: Annotated[
        float | None, typer.Option(min=1.0, help="Largest factor; default 1.25 x the ratio.")
    ] = None,
    attention_factor: Annotated[
        str | None, typer.Option(help="A number, or 'search'; default Hugging Face's formula.")
    ] = None,
    start_tokens: Annotated[
        bool, typer.Option("--start-tokens/--no-start-tokens", help="Search n_hat too.")
    ] = True,
    racing: Annotated[
        float, typer.Option(min=0.0, help="Standard errors behind at which one is dropped.")
    ] = 1.0,
    no_racing: Annotated[
        bool, typer.Option("--no-racing", help="Measure every candidate on every document.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Second search: the factors of the fine-tuning."),
    ] = None,
    start_from: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="More seeds: sets of factor files.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Factor file whose other sets to keep.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name in the factor file; default its folder's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Models that measure at once.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each worker; default an equal share.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Workers on a Ray cluster, or 'local'.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N; default a GPU if any.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the weights.")] = "bfloat16",
) -> None:
    """Search the factor set with the lowest loss at a length (LongRoPE, Algorithm 1).

    Every evaluation is logged; run the same command again to go on with a killed search. The
    factor file gets the original set too, or the other sets of --keep.
    """
    with one_sentence():
        # A Ray cluster's workers have their own devices.
        (compute.check_here if ray is None else compute.check_name)(device)
        for name_of, number in (("step", step), ("max-factor", max_factor), ("racing", racing)):
            if number is not None and not math.isfinite(number):
                raise UsageError(f"--{name_of} is {number}; it should be a finite number.")
        from longrope_factors.search import files, progress
        from longrope_factors.search.question import Question, plan
        from longrope_factors.search.settings import Settings

        kept = None if keep is None else _checked(keep, model)
        if kept is not None:
            adapter.check(kept, output, model)  # their folders are to be beside the new file
        question = Question(
            model_dir=model,
            length=length,
            corpus=tuple(corpus),
            windows=windows,
            windows_of=windows_of,
            objective=objective,
            shape=shape,
            critical_pair=critical_pair,
            step=step,
            max_factor=max_factor,
            attention_factor=_attention_factor(attention_factor),
            search_start_tokens=start_tokens,
            base=None if base is None else _checked(base, model).sets[-1],
            starts=_all_sets(start_from or [], model),
            dtype=dtype,
            name=name,
        )
        evolution = Settings(
            population=population,
            mutations=mutations,
            crossovers=crossovers,
            parents=parents,
            iterations=iterations,
            chance=chance,
            warp=warp,
            racing=None if no_racing else racing,
            seed=seed,
        )
        planned = plan(question, evolution)
        crew = progress.Crew(workers, threads, ray, device)
        places = files.Places(
            log or output.with_suffix(".jsonl"), output, plot or output.with_suffix(".png")
        )
        _, found, history = files.search(planned, crew, places, kept)
        last = history[-1]
        typer.echo(
            f"{output}: perplexity {found.provenance.perplexity_after} at {length} tokens "
            f"(plain {found.provenance.perplexity_before}) after {last.measured} evaluations; "
            f"without racing {last.full}."
        )


def _attention_factor(text: str | None) -> float | Literal["search"] | None:
    if text is None:
        return None
    if text == "search":
        return "search"
    number = numbers.real(text)
    if not bounds.ATTENTION_FACTOR.hold(number):
        raise UsageError(
            f"--attention-factor is {text!r}; it should be 'search' or a number "
            f"{bounds.ATTENTION_FACTOR}."
        )
    return number


def _checked(path: Path, model: Path) -> FactorFile:
    return model_directory.base_of(model).load(path)


def _all_sets(paths: list[Path], model: Path) -> tuple[FactorSet, ...]:
    return tuple(each for path in paths for each in _checked(path, model).sets)
