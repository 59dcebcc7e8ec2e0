"""`longrope loadtest` as a user calls it."""

import gc
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_loadtest.cli import app
from typer.testing import CliRunner

COMMAND = (sys.executable, "-c", "from longrope_loadtest.cli import app; app()")


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    status: int
    stdout: str
    stderr: str


def loadtest(*arguments: str | Path, **environment: str) -> Outcome:
    """Runs a command in this process."""
    gc.freeze()  # as in `driven`
    no_keys = {"LONGROPE_API_KEY": "", "OPENAI_API_KEY": ""}
    result = CliRunner().invoke(
        app, [str(argument) for argument in arguments], env=no_keys | environment
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def started(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Starts a command in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(
    folder: Path, arrivals: dict[str, Any], mock: dict[str, Any] | None = None, **fields: Any
) -> Path:
    """A profile's file with one class, `a`; `profile` holds what is beside the class."""
    beside = fields.pop("profile", {})
    each = {
        "prompt": {"kind": "words", "tokens": 16},
        "output_tokens": 8,
        "extra": {"mock": mock or {}},
        **fields,
    }
    path = folder / "profile.yaml"
    content = {"arrivals": arrivals, "classes": {"a": each}, **beside}
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def requests_in(directory: Path) -> list[dict[str, Any]]:
    """The lines of requests.jsonl; each must be whole."""
    lines = (directory / "requests.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
