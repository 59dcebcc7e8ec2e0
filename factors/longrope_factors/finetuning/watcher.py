"""Who is told what a fine-tune does."""

import sys

from longrope_factors.finetuning.journal import Step


class Watcher:
    """Told what a run does; every method does nothing here. Only the main process tells."""

    def begin(self, steps: list[Step]) -> None:
        """Training begins, after the steps that were done earlier."""

    def sequences(self, count: int) -> None:
        """So many more sequences of the current step are through, over all processes."""

    def step(self, step: Step) -> None:
        """A step is done."""

    def warn(self, sentence: str) -> None:
        """Something that the user should know; on stderr here."""
        print(sentence, file=sys.stderr)
