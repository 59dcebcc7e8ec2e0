"""The loss curve on disk: one JSON line for each step."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import json_lines
from longrope_factors.factor_file.files.whole_file import replacing


@dataclass(frozen=True)
class Step:
    """One optimiser step, counted from 1; losses are means in nats.

    `loss` is the loss that was minimised. `long` is the loss of long text, `short` that of short
    documents under the original rotation, `passkey` that of the keys in passkey prompts, and
    `retrieval` that of the answers in retrieval exercises; each is None if the step had none. If a
    check followed the step, `found` is the share of held-out questions that were answered exactly,
    and `held_out` the loss of their answers.
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
        """The score of a checked step, greater is better: the share found, then minus the loss."""
        assert self.found is not None
        assert self.held_out is not None
        return self.found, -self.held_out


def best(steps: Sequence[Step]) -> Step | None:
    """The best step that was followed by a check, the first if several are equal; None if none."""
    checked = [step for step in steps if step.found is not None]
    return max(checked, key=lambda step: step.score, default=None)


def read(path: Path) -> list[Step]:
    """The steps of a loss log, without a torn last line; none if there is no file.

    Raises UsageError, naming the line, for anything but a step.
    """
    steps = []
    for number, line in enumerate(json_lines.whole(path), 1):
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError):
            raise UsageError(f"{path}: line {number} is not a step of a fine-tune.") from None
    return steps


def truncate(path: Path, step: int) -> list[Step]:
    """Cut the log off after `step` steps and return the remaining steps."""
    kept = [logged for logged in read(path) if logged.step <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{_line(logged)}\n" for logged in kept), encoding="utf-8")
    return kept


def append(path: Path, step: Step) -> None:
    """Add one step to the log."""
    json_lines.append(path, _line(step))


def _line(step: Step) -> str:
    return json.dumps(asdict(step))
