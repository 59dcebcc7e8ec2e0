"""Traces: JSON lines, one request each, in the fields of Mooncake's published traces.

`timestamp` (milliseconds), `input_length` and `output_length` (tokens); optional `hash_ids`, one
for each block of the prompt: equal ids are equal text, so that the trace's own prefix hits are
replayed; optional `class`, a class of the profile.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from longrope_loadtest.errors import LoadTestError

BLOCK_TOKENS = 512  # of one hash id


class _Line(BaseModel):
    timestamp: NonNegativeFloat
    input_length: PositiveInt
    output_length: PositiveInt
    hash_ids: tuple[NonNegativeInt, ...] = ()
    class_name: Annotated[str | None, Field(alias="class")] = None


@dataclass(frozen=True, slots=True)
class Traced:
    """One request of a trace; `time` in seconds from the trace's first."""

    time: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    class_name: str | None


def read(path: Path) -> list[Traced]:
    """The requests of a trace by time.

    Raises:
        LoadTestError: It cannot be read, or a line is wrong; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadTestError(f"The trace {path} cannot be read: {error}") from error
    parsed = [_parsed(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not parsed:
        raise LoadTestError(f"The trace {path} has no requests")
    parsed.sort(key=lambda line: line.timestamp)
    return [
        Traced(
            (line.timestamp - parsed[0].timestamp) / 1000,
            line.input_length,
            line.output_length,
            line.hash_ids,
            line.class_name,
        )
        for line in parsed
    ]


def _parsed(path: Path, number: int, line: str) -> _Line:
    try:
        return _Line.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LoadTestError(f"{path}, line {number}: {field}: {first['msg']}") from error
    except json.JSONDecodeError as error:
        raise LoadTestError(f"{path}, line {number} is not JSON") from error
