"""Settings, defined once: for a command's options, for sections of TOML files, and for the docs.

A section is a pydantic model whose fields have descriptions and bounds. A command offers some of
them as options and takes the others from a file, which names them as its sections do.
"""

import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer.core
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.refusal import sentence

S = TypeVar("S", bound="Section")
F = TypeVar("F", bound=Callable[..., None])


class Section(BaseModel):
    """Settings with their defaults, checked."""

    # strict: TOML has numbers, so text or true in place of one is a mistake.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given; the others have their defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @classmethod
    def made(cls: type[S], given: Mapping[str, Any]) -> S:
        """The section with the `given` options; raises UsageError, naming a wrong option."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            where = error.errors(include_url=False)[0]["loc"]
            option = _option(str(where[0])) if where else ""
            words = sentence(error, given).removeprefix(str(where[0]) if where else "")
            raise UsageError(f"{option}{words}{'' if words.endswith('.') else '.'}") from None


class MachineSection(Section):
    """[machine]: where a command runs; of these settings, only `dtype` changes a result."""

    device: Annotated[
        str | None, Field(description="device: cpu, cuda or cuda:N; a GPU if there is one")
    ] = None
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"],
        Field(description="dtype that the model computes in"),
    ] = "bfloat16"
    workers: Annotated[int, Field(ge=1, description="models that measure at the same time")] = 1
    threads: Annotated[
        int | None,
        Field(ge=1, description="CPU threads of each worker; an equal share if left out"),
    ] = None
    ray: Annotated[str | None, Field(description="address of a Ray cluster, or local")] = None


def document(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises UsageError if it is not TOML."""
    try:
        return tomllib.loads(text_files.decoded(path, path.read_bytes()))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is not TOML: {error}.") from None


def read(path: Path, sections: Mapping[str, type[Section]]) -> dict[str, dict[str, Any]]:
    """The settings in each of `sections` of a TOML file; raises UsageError for anything else."""
    given: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for name, content in document(path).items():
        if name not in sections or not isinstance(content, dict):
            have = ", ".join(f"[{section}]" for section in sections)
            raise UsageError(f"{path}: {name} is not one of the sections {have}.")
        try:
            given[name] = sections[name].model_validate(content).given
        except ValidationError as error:
            raise UsageError(f"{path}: {name}.{sentence(error, content)}.") from None
    return given


def options(section: type[Section], *names: str) -> Callable[[F], F]:
    """Give a command an option for each of a section's settings in `names`.

    The command's function takes them as `**options`: those that were not typed are None.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        parameters = list(signature.parameters.values())
        own = [
            parameter
            for parameter in parameters
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        made = [_parameter(name, section.model_fields[name]) for name in names]
        function.__signature__ = signature.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
        return function

    return decorate


def command(
    sections: Mapping[str, type[Section]], gone: Mapping[str, str]
) -> type[typer.core.TyperCommand]:
    """The class of a command whose other settings come from a file.

    If a setting of `sections` is typed as an option, the error says where it belongs now. If an
    option is in `gone`, the error has the words there.
    """
    answers = {
        _option(name): f"write {name} under [{section}] in a file for --settings"
        for section, fields in sections.items()
        for name in fields.model_fields
    }
    answers |= gone

    class Command(typer.core.TyperCommand):
        def parse_args(self, context: Any, words: list[str]) -> list[str]:
            known = {option for parameter in self.params for option in parameter.opts}
            for option in (word.partition("=")[0] for word in words):
                if option in answers and option not in known:
                    with one_sentence():
                        raise UsageError(f"{option} is no longer an option: {answers[option]}.")
            return super().parse_args(context, words)

    return Command


def typed(options: Mapping[str, Any], section: type[Section]) -> dict[str, Any]:
    """The options of a section that were typed."""
    typed = {name: options[name] for name in section.model_fields.keys() & options.keys()}
    return {name: value for name, value in typed.items() if value is not None}


def rows(section: type[Section]) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each setting, for the documentation."""
    for name, field in section.model_fields.items():
        default = "" if field.default is None else str(field.default).lower()
        yield name, default, field.description or ""


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = _plain(field.annotation)
    option = typer.Option(
        *([_option(name)] if kind is bool else []), help=_help(field), show_default=False
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _plain(annotation: Any) -> type:
    """The type that typer parses for an option; choices are text here, and checked later."""
    if get_origin(annotation) is Literal:
        return str
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if not kinds:
        assert isinstance(annotation, type)
        return annotation
    return str if len(kinds) > 1 else _plain(kinds[0])


def _help(field: FieldInfo) -> str:
    description = field.description or ""
    words = f"{description[:1].upper()}{description[1:]}."
    if field.default is None or field.default is False:
        return words
    return f"{words} Default: {field.default}."


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
