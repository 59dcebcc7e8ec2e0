"""The progress bar of a fine-tune: loss, speed and remaining time."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from longrope_factors.finetuning.journal import Step
from longrope_factors.finetuning.settings import Settings
from longrope_factors.finetuning.watcher import Watcher


@contextlib.contextmanager
def shown(settings: Settings) -> Iterator[Watcher]:
    """A watcher that shows a progress bar on stderr."""
    columns = (
        TextColumn("step {task.fields[step]} of {task.fields[steps]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s{task.fields[found]}"),
        TimeRemainingColumn(),
    )
    # A step of long sequences takes minutes, so look further back than rich's 30 seconds.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as progress:
        yield _Bar(progress, settings)


def _found(steps: list[Step]) -> str:
    """The share found by the last check, as a suffix; empty before the first check."""
    checked = [step.found for step in steps if step.found is not None]
    return f"  held-out {checked[-1]:.0%}" if checked else ""


class _Bar(Watcher):
    def __init__(self, progress: Progress, settings: Settings) -> None:
        self._progress, self._settings = progress, settings

    def begin(self, steps: list[Step]) -> None:
        self._task = self._progress.add_task(
            "",
            total=self._settings.steps * self._settings.batch,
            completed=len(steps) * self._settings.batch,
            step=len(steps),
            steps=self._settings.steps,
            loss=f"{steps[-1].loss:.4f}" if steps else "-",
            speed="-",
            found=_found(steps),
        )

    def sequences(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def step(self, step: Step) -> None:
        self._progress.update(
            self._task,
            completed=step.step * self._settings.batch,
            step=step.step,
            loss=f"{step.loss:.4f}",
            speed=f"{step.tokens / step.seconds:,.0f}",
        )

        if step.found is not None:
            self._progress.update(self._task, found=_found([step]))

    def warn(self, sentence: str) -> None:
        self._progress.console.print(sentence, soft_wrap=True, markup=False, highlight=False)
