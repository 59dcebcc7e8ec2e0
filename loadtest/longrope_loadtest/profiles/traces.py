"""Traces: JSON Lines, one request per line, with the fields of Mooncake's published traces.

The fields are `timestamp`, `input_length` and `output_length` (tokens). `hash_ids` are optional,
one for each block of the prompt: equal ids stand for equal text, so that the trace's own prefix
hits are replayed. `class`, a class of the profile, is optional too. `trace_units` describes the
units of timestamps and blocks.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
)

from longrope_loadtest import text_files
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.bounds import MOST
from longrope_loadtest.profiles.distributions import Listed
from longrope_loadtest.profiles.trace_units import (
    DEFAULT_BLOCK_TOKENS,
    PER_SECOND,
    Unit,
    block_tokens_of,
    misfit,
    rate,
    unit_of,
)

# Qwen-Bailian's traces, which are in seconds, have these fields as well.
IN_SECONDS = {"chat_id", "parent_chat_id"}


def _whole(value: Any) -> Any:
    """Accept 700.0 as 700, because JSON has only one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Tokens = Annotated[int, BeforeValidator(_whole), Field(gt=0, le=MOST)]
Id = Annotated[int, BeforeValidator(_whole), Field(ge=0)]


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    timestamp: NonNegativeFloat
    input_length: Tokens
    output_length: Tokens
    hash_ids: Listed[Id] = ()
    class_name: Annotated[str | None, Field(alias="class")] = None


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int  # the line's number, from 1
    line: _Line
    names: frozenset[str]  # the names of its fields


@dataclass(frozen=True, slots=True)
class Traced:
    """One request of a trace; `time` is in seconds from the trace's first request."""

    time: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    block_tokens: int
    class_name: str | None


def read(path: Path, unit: Unit | None = None, block_tokens: int | None = None) -> list[Traced]:
    """The requests of a trace in the order of their times.

    `unit` is that of the timestamps and `block_tokens` the number of tokens of a hash id; if they
    are None, they are deduced from the trace.

    Raises:
        UsageError: The trace cannot be read, a line is wrong, the hash ids do not fit the lengths,
            or a unit is ambiguous; the message has the line's number and the field.
    """
    lines = enumerate(text_files.lines(text_files.read(path)), 1)
    parsed = [_parsed(path, number, line) for number, line in lines if line]
    if not parsed:
        raise UsageError(f"The trace {path} has no requests.")
    per_second = PER_SECOND[unit or _unit(path, parsed)]
    tokens = _block_tokens(path, parsed, block_tokens)
    requests = sorted((numbered.line for numbered in parsed), key=lambda line: line.timestamp)
    return [
        Traced(
            (request.timestamp - requests[0].timestamp) / per_second,
            request.input_length,
            request.output_length,
            request.hash_ids,
            tokens,
            request.class_name,
        )
        for request in requests
    ]


def _parsed(path: Path, number: int, line: str) -> _Numbered:
    place = f"{path}, line {number}"
    try:
        content = json.loads(line)
        return _Numbered(number, _Line.model_validate(content), frozenset(content))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place}: {field and f'{field}: '}{first['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not JSON.") from error


def _unit(path: Path, parsed: list[_Numbered]) -> Unit:
    if all(numbered.names >= IN_SECONDS for numbered in parsed):
        return "s"
    timestamps = [numbered.line.timestamp for numbered in parsed]
    unit = unit_of(timestamps)
    if unit is None:
        last = max(parsed, key=lambda numbered: numbered.line.timestamp)
        raise UsageError(
            f"{path}, line {last.number}: timestamp: {len(parsed)} requests up to "
            f"{last.line.timestamp:g} are {rate(timestamps, 'ms'):,.0f} a second in milliseconds "
            f"and {rate(timestamps, 's'):.3g} in seconds: set unit: ms or unit: s in the profile's "
            "arrivals."
        )
    return unit


def _block_tokens(path: Path, parsed: list[_Numbered], given: int | None) -> int:
    with_ids = [numbered for numbered in parsed if numbered.line.hash_ids]
    lengths = [(numbered.line.input_length, len(numbered.line.hash_ids)) for numbered in with_ids]
    tokens = given or block_tokens_of(lengths) or DEFAULT_BLOCK_TOKENS
    at = misfit(lengths, tokens)
    if at is not None:
        length, blocks = lengths[at]
        advice = "" if given else "; another size is said by block_tokens in the profile's arrivals"
        raise UsageError(
            f"{path}, line {with_ids[at].number}: hash_ids: has {blocks} for the {length} tokens "
            f"of input_length, which are {-(-length // tokens)} blocks of {tokens}{advice}."
        )
    return tokens
