"""`longrope factors export` and `import`: factor sets in the forms of other programs."""

import datetime
import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from longrope_factors import __version__
from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import bounds, hf, numbers, schema
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity, Provenance
from longrope_factors.formats import authors_csv, two_lists

_T = TypeVar("_T")


class Target(StrEnum):
    """The forms that `export` can write."""

    HF = "hf"
    CSV = "csv"
    GGUF = "gguf"


class Source(StrEnum):
    """The forms that `import` can read."""

    HF = "hf"
    CSV = "csv"


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Factor file.")],
    to: Annotated[Target, typer.Option(help="The form to write.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="hf, csv: the folder to write to; gguf: the file."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="hf: the model directory whose config.json changes."),
    ] = None,
    gguf: Annotated[
        Path | None,
        typer.Option(metavar="MODEL.gguf", help="gguf: the model to copy with the factors in it."),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            help="hf, gguf: the long list is the set that covers this length instead of the last; "
            "csv: write only that set."
        ),
    ] = None,
) -> None:
    """Write a factor file in another program's form, and print to stderr what that form loses."""
    with one_sentence():
        if (model is not None) != (to is Target.HF):
            raise UsageError("--model DIR is needed with --to hf, and only there.")
        if gguf is not None and to is not Target.GGUF:
            raise UsageError("--gguf MODEL.gguf goes with --to gguf only.")
        factor_file = schema.load(file)
        if model is not None:
            written, lost = _export_hf(factor_file, model, output, length)
        elif to is Target.CSV:
            written, lost = _export_csv(factor_file, file.stem, output, length)
        else:
            from longrope_factors.formats import gguf_factors

            written, lost = [output], gguf_factors.write(factor_file, output, gguf, length)
        for sentence in lost:
            typer.echo(sentence, err=True)
        for path in written:
            typer.echo(path)


def import_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="hf: a model directory; csv: files.")
    ],
    source_form: Annotated[Source, typer.Option("--from", help="The form to read.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Factor file to write.")],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="csv: the model directory (config.json).")
    ] = None,
    length: Annotated[
        list[int] | None,
        typer.Option(min=1, max=2**31 - 1, help="csv: max_length, once for each file."),
    ] = None,
    start_tokens: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="csv: start tokens, once for each file or once for all; 0 in the authors' code.",
        ),
    ] = None,
    attention_factor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER|authors",
            help="csv: attention factor, once for each file or once for all; 'authors' is "
            "sqrt(1 + ln s / ln L_original), as in the authors' code.",
        ),
    ] = None,
) -> None:
    """Make a factor file from a Hugging Face config's two lists or the LongRoPE authors' CSVs."""
    with one_sentence():
        if source_form is Source.HF:
            if any((model, length, start_tokens, attention_factor)):
                raise UsageError("--from hf takes one directory and no option but -o.")
            (directory,) = _each(sources, 1, "model directory")
            factor_file = hf.two_list(hf.read_config(directory), directory.resolve().name)
        else:
            if model is None:
                raise UsageError("--from csv needs --model DIR, because a CSV names no model.")
            identity = hf.model_identity(hf.read_config(model), model.resolve().name)
            count = len(sources)
            parts = zip(
                sources,
                _each(length, count, "--length"),
                _each(start_tokens, count, "--start-tokens", shared=True),
                _each(attention_factor, count, "--attention-factor", shared=True),
                strict=True,
            )
            sets = [_set_of_csv(identity, *part) for part in parts]
            factor_file = schema.build(
                identity, sorted(sets, key=lambda factor_set: factor_set.max_length)
            )
        schema.save(factor_file, output)
        lengths = ", ".join(str(factor_set.max_length) for factor_set in factor_file.sets)
        typer.echo(f"{output}: sets of {lengths} for {factor_file.model.name}.")


def _export_hf(
    factor_file: FactorFile, model: Path, folder: Path, length: int | None
) -> tuple[list[Path], list[str]]:
    config, lost = two_lists.hf_config(hf.read_config(model), factor_file, length)
    path = folder / "config.json"
    two_lists.write_config(config, path)
    return [path], lost


def _export_csv(
    factor_file: FactorFile, stem: str, folder: Path, length: int | None
) -> tuple[list[Path], list[str]]:
    sets = factor_file.sets
    if length is not None:
        sets = (sets[factor_file.select(length)],)
    written, lost = [], []
    for factor_set in sets:
        path = folder / authors_csv.file_name(stem, factor_set)
        authors_csv.write(factor_set, path)
        written.append(path)
        lost.append(authors_csv.lost(factor_file, factor_set, path.name))
    return written, lost


def _set_of_csv(
    identity: ModelIdentity, path: Path, length: int, start_tokens: int, attention_factor: str
) -> FactorSet:
    factors = authors_csv.read(path, identity.rotary_dim)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FactorSet(
        max_length=length,
        factors=factors,
        start_tokens=start_tokens,
        attention_factor=_attention_factor(attention_factor, length, identity),
        provenance=Provenance(
            method="published",
            source=f"{text_files.readable(path.name)} (sha256 {digest})",
            date=datetime.date.today().isoformat(),
            tool_version=__version__,
        ),
    )


def _each(values: list[_T] | None, count: int, name: str, shared: bool = False) -> list[_T]:
    given = values or []
    if shared and len(given) == 1:
        return given * count
    if len(given) != count:
        also = " or once for all" if shared and count > 1 else ""
        raise UsageError(f"{name} is given {len(given)} times; it should be {count} times{also}.")
    return given


def _attention_factor(text: str, length: int, identity: ModelIdentity) -> float:
    if text == "authors":
        original = identity.original_max_position_embeddings
        return two_lists.authors_attention_factor(length, original)
    number = numbers.real(text)
    if not bounds.ATTENTION_FACTOR.hold(number):
        raise UsageError(
            f"--attention-factor is {text!r}; it should be 'authors' or a number "
            f"{bounds.ATTENTION_FACTOR}."
        )
    return number
