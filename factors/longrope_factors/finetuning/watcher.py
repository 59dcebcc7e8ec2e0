"""Callbacks that follow a fine-tune."""

import sys

from longrope_factors.finetuning.journal import Step


class Watcher:
    """Is told what a run does, by the main process; here, only `warn` does something."""

    def begin(self, steps: list[Step]) -> None:
        """Training begins; `steps` were done by earlier runs."""

    def sequences(self, count: int) -> None:
        """Another `count` sequences of the current step are done, over all processes."""

    def step(self, step: Step) -> None:
        """A step is done."""

    def warn(self, sentence: str) -> None:
        """Tell the user `sentence`; here, on stderr."""
        print(sentence, file=sys.stderr)
