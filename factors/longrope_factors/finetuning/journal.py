"""The loss curve on disk: one JSON line for each step."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from longrope_factors.whole_file import replacing


@dataclass(frozen=True)
class Step:
    """One optimiser step, counted from 1; losses are means in nats.

    `loss` is what was minimised; the others are of long text, of short documents under the
    original rotation, of the keys that passkey prompts ask for and of the answers to retrieval
    exercises, None where the step had none.
    """

    step: int
    loss: float
    long: float | None
    short: float | None
    passkey: float | None
    gradient_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    retrieval: float | None = None


def read(path: Path) -> list[Step]:
    """The steps of a loss log, up to a torn last line; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [Step(**json.loads(line)) for line in lines if line.endswith("\n")]


def truncate(path: Path, step: int) -> list[Step]:
    """Cut the log off after `step` steps and give those."""
    kept = [each for each in read(path) if each.step <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
    return kept


def append(path: Path, step: Step) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(step))


def _line(step: Step) -> str:
    return json.dumps(asdict(step)) + "\n"
