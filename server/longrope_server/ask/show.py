"""What `longrope ask` shows on stderr: what it waits for, and the numbers of the answer."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from longrope_server.ask.answer import Answer
from longrope_server.ask.server import RETRIES
from longrope_server.ask.untrusted import printable
from longrope_server.errors import UsageError
from longrope_server.streams import discard_the_rest


class Rate(ProgressColumn):
    """Tokens a second."""

    def render(self, task: Task) -> Text:
        """The rate over the last 30 seconds, once there is one."""
        return Text("" if task.speed is None else f"{task.speed:,.0f} tokens/s")


WAITING = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
MEASURED = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    TextColumn("{task.completed:,.0f}/{task.total:,.0f} tokens"),
    Rate(),
    TimeRemainingColumn(),
)


class Wait:
    """One line on a terminal: a spinner and the time, and a bar once progress is known."""

    def __init__(self, console: Console, what: str) -> None:
        self.progress = Progress(
            *WAITING,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_interactive or console.quiet,
        )
        self.task = self.progress.add_task(what, total=None)
        self.progress.start()

    def prefill(self, computed: int, total: int) -> None:
        """Shows how far the server has read."""
        self.progress.update(
            self.task, description="reading", completed=min(computed, total), total=total
        )
        self.progress.columns = MEASURED  # after the update, because they need a total

    def end(self) -> None:
        """Removes the line; a second call does nothing."""
        self.progress.stop()


class Display:
    """The answer on stdout, everything but errors on stderr; with `as_json`, only the answer.

    A pipe gets the text as it is, a terminal without control characters.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(
            stderr=True, quiet=as_json, markup=False, emoji=False, highlight=False, soft_wrap=True
        )
        self.last = ""

    @contextmanager
    def waiting(self, what: str) -> Iterator[Wait]:
        """Shows what is waited for, until the block or the Wait ends."""
        wait = Wait(self.console, printable(what))
        try:
            yield wait
        finally:
            wait.end()

    def busy(self, status: int, seconds: float, retry: int) -> None:
        """Says that the server is busy and will be asked again."""
        self.console.print(
            f"The server is busy ({status}) and asks to wait: trying again in {seconds:,.0f} s "
            f"({retry} of {RETRIES})."
        )

    def add(self, text: str) -> None:
        """Prints more of the answer, without delay."""
        if self.as_json:
            return
        self.last = text[-1:] or self.last
        _write(printable(text) if sys.stdout.isatty() else text)

    def end(self, answer: Answer) -> None:
        """Ends the answer's last line, or prints all of it as JSON."""
        if self.as_json:
            _write(json.dumps(answer.document()) + "\n")
        elif self.last not in ("", "\n"):
            self.add("\n")

    def summary(self, answer: Answer, max_tokens: int) -> None:
        """Prints one line about how the answer was made."""
        self.console.print(summary(answer, max_tokens), style="dim")


def _write(text: str) -> None:
    """Writes to stdout at once. Raises UsageError if it cannot be written to, say to a full disk.

    BrokenPipeError passes: a reader that has left needs no sentence.
    """
    try:
        sys.stdout.buffer.write(text.encode(errors="replace"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_the_rest()
        raise UsageError(f"The answer cannot be written to stdout: {error.strerror}.") from None


def summary(answer: Answer, max_tokens: int) -> str:
    """The factor set, tokens and times of an answer, as far as the server has said them."""
    parts = []
    if answer.started is not None:
        after = f", promoted to {answer.finished:,}" if answer.promoted else ""
        parts.append(f"factor set {answer.started:,}{after}")
    if answer.prompt_tokens is not None and answer.answer_tokens is not None:
        parts.append(f"{answer.prompt_tokens:,} prompt and {answer.answer_tokens:,} answer tokens")
    if answer.first_token_seconds is not None:
        parts.append(f"the first after {answer.first_token_seconds:.2f} s")
    parts.append(f"{answer.total_seconds:.2f} s in all")
    if answer.tokens_per_second is not None:
        parts.append(f"{answer.tokens_per_second:.1f} tokens/s")
    if answer.finish_reason == "length":
        parts.append(f"cut at --max-tokens {max_tokens:,}")
    elif answer.finish_reason != "stop":
        parts.append(f"ended by {printable(str(answer.finish_reason))}")
    return "; ".join(parts) + "."
