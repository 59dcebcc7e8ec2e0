"""Measurements in a JSON Lines file, which grows, survives a killed run and is read back."""

import resource
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import json_lines


class Result(BaseModel):
    """The fields of every measurement: the model, the rotation and the cost.

    `tokenizer_sha256` is None if an earlier version measured, which did not write it down.
    `peak_memory_bytes` is the process's peak resident memory so far, including what came before
    this measurement. It does not include a GPU's memory.
    """

    # protected_namespaces is empty because there is a field `model`; pydantic reserves names that
    # begin with model_.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        protected_namespaces=(),
        ser_json_inf_nan="constants",
    )

    model: str
    weights_sha256: str
    tokenizer_sha256: str | None = None
    dtype: str
    device: str
    length: int
    method: str
    fingerprint: str
    seconds: float
    peak_memory_bytes: int
    date: str
    tool_version: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies a measurement, so that it is not repeated."""
        raise NotImplementedError


R = TypeVar("R", bound=Result)


def read(path: Path, kind: type[R]) -> list[R]:
    """The results in a file; none if the file does not exist.

    An unfinished last line of a killed run does not count. Raises UsageError, naming the line, for
    anything else that is not a result of this `kind`.
    """
    results = []
    for number, line in enumerate(json_lines.whole(path), 1):
        try:
            results.append(kind.model_validate_json(line))
        except ValidationError:
            raise UsageError(
                f"{path}: line {number} is not one of this version's {kind.__name__} results; "
                "-o should name a new file or one with such results only."
            ) from None
    return results


def append(path: Path, result: Result) -> None:
    """Add one line to a results file."""
    json_lines.append(path, result.model_dump_json())


def peak_memory() -> int:
    """The peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
