"""Measurements as JSON lines: one file that grows, survives a kill and is read back."""

import resource
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import json_lines


class Result(BaseModel):
    """What every measurement says: of which model, under which rotation, at what cost.

    `peak_memory_bytes` is the most that the process had resident until then, what came before this
    measurement included; a GPU's memory is not in it.
    """

    # protected_namespaces: `model` is our word, whatever pydantic reserves.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        protected_namespaces=(),
        ser_json_inf_nan="constants",
    )

    model: str
    weights_sha256: str
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
        """What makes a measurement the same one, so that it need not be run again."""
        raise NotImplementedError


R = TypeVar("R", bound=Result)


def read(path: Path, kind: type[R]) -> list[R]:
    """The results in a file; none where there is no file.

    A last line that a killed run left unfinished is cut off. Raises UsageError, naming the line,
    for anything else that is not a result of this `kind`.
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
    with path.open("a", encoding="utf-8") as file:
        file.write(result.model_dump_json() + "\n")


def peak_memory() -> int:
    """The most bytes that this process has had resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
