"""`longrope factors search`: find a factor set by evolution."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import model_directory, numbers
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorFile, FactorSet
from longrope_factors.models import compute
from longrope_factors.search.settings import Settings, SpaceSettings
from longrope_factors.settings import MachineSection, Section, command, options, read, typed

SECTIONS: dict[str, type[Section]] = {
    "search": Settings,
    "space": SpaceSettings,
    "machine": MachineSection,
}

Command = command(
    SECTIONS,
    {
        "--no-racing": "write racing = false under [search] in a file for --settings",
        "--start-tokens": "they are searched unless a file for --settings says otherwise",
        "--no-start-tokens": "write search_start_tokens = false under [space] in such a file",
        "--log": "it stands beside the factor file",
        "--plot": "it stands beside the factor file",
    },
)


@options(MachineSection, "workers", "device", "dtype")
@options(Settings, "iterations", "seed")
@options(SpaceSettings, "windows_of", "attention_factor")
def search(
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory (safetensors).")],
    length: Annotated[int, typer.Option(min=2, max=2**31 - 1, help="Target length in tokens.")],
    corpus: Annotated[
        list[Path], typer.Option(metavar="TEXTFILE", help="UTF-8 text; may be repeated.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Factor file to write; the log and a plot are written beside it.",
        ),
    ],
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For a second search: factor file used for the fine-tuning."
        ),
    ] = None,
    start_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Factor file whose sets join the seeds; may be repeated."
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Factor file whose other sets are copied.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The model's name in the factor file. Default: its folder's name."),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="More settings: [search], [space] and [machine]."),
    ] = None,
    **options: Any,
) -> None:
    """Search for the factor set with the lowest loss at a length (LongRoPE, Algorithm 1).

    Every evaluation is logged. To resume a killed search, run the same command again. The factor
    file gets the original set too, or the other sets of --keep.
    """
    with one_sentence():
        if output.suffix in (".jsonl", ".png"):
            raise UsageError(f"{output}: names the log or the plot; -o should be FILE.json.")
        if output.is_dir():
            raise UsageError(f"{output}: is a folder; -o should be FILE.json.")
        given = {name: {} for name in SECTIONS} if settings is None else read(settings, SECTIONS)
        text = options.pop("attention_factor")
        if text is not None:
            number = numbers.real(text)
            options["attention_factor"] = text if math.isnan(number) else number
        evolution = Settings.made(given["search"] | typed(options, Settings))
        space = SpaceSettings.made(given["space"] | typed(options, SpaceSettings))
        machine = MachineSection.made(given["machine"] | typed(options, MachineSection))
        # The workers of a Ray cluster have their own devices.
        (compute.check_here if machine.ray is None else compute.check_name)(machine.device)
        from longrope_factors.search import progress, run
        from longrope_factors.search.question import Question, plan

        kept = None if keep is None else _checked(keep, model)
        if kept is not None:
            adapter_files.check(kept, output, model)  # the adapters must be beside the new file
        question = Question(
            model_dir=model,
            length=length,
            corpus=tuple(corpus),
            space=space,
            base=None if base is None else _checked(base, model).sets[-1],
            starts=_all_sets(start_from or [], model),
            dtype=machine.dtype,
            name=name,
        )
        planned = plan(question, evolution)
        if note := model_directory.base_of(model).note:
            typer.echo(note, err=True)
        computes_here = machine.ray in (None, "local")
        advice = compute.advice(machine.dtype, machine.device) if computes_here else None
        with progress.shown(planned, advice) as watcher:
            result = run.run(planned, output, machine, kept, watcher)
        provenance, last = result.found.provenance, result.history[-1]
        typer.echo(
            f"{output}: perplexity {provenance.perplexity_after} at {length} tokens "
            f"(plain {provenance.perplexity_before}) after {last.measured} evaluations; "
            f"without racing {last.full}."
        )


def _checked(path: Path, model: Path) -> FactorFile:
    return model_directory.base_of(model).load(path)


def _all_sets(paths: list[Path], model: Path) -> tuple[FactorSet, ...]:
    return tuple(factor_set for path in paths for factor_set in _checked(path, model).sets)
