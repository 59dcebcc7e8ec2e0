"""The loss curve on disk: one JSON line for each step."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from longrope_factors.factor_file.files.whole_file import replacing


@dataclass(frozen=True)
class Step:
    """One optimiser step, counted from 1; losses are means in nats.

    `loss` is what was minimised; the others are of long text, of short documents under the
    original rotation, of the keys that passkey prompts ask for and of the answers to retrieval
    exercises, None where the step had none. `found` is the share of the held-out questions answered
    exactly, and `held_out` the loss of their answers, where the step was followed by a check.
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
    found: float | None = None
    held_out: float | None = None

    @property
    def score(self) -> tuple[float, float]:
        """What checked steps are compared by, greater is better: found, then the answers' loss."""
        assert self.found is not None
        assert self.held_out is not None
        return self.found, -self.held_out


def best(steps: Sequence[Step]) -> Step | None:
    """The first of the best steps that were followed by a check; None where none was."""
    checked = [step for step in steps if step.found is not None]
    return max(checked, key=lambda step: step.score, default=None)


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
