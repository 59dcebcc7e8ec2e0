"""The loss curve on disk: one JSON line for each step."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
    """The steps of a loss log, without a torn last line; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [Step(**json.loads(line)) for line in lines if line.endswith("\n")]


def truncate(path: Path, step: int) -> list[Step]:
    """Cut the log off after `step` steps and return the remaining steps."""
    kept = [logged for logged in read(path) if logged.step <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
    return kept


def append(path: Path, step: Step) -> None:
    """Add one step to the log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(step))


def _line(step: Step) -> str:
    return json.dumps(asdict(step)) + "\n"
