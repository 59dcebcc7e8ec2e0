"""Processes that end before their time, without the ten seconds that importing torch takes each."""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["longrope_factors.cli", "longrope_factors.finetuning.training", "peft", "pytest"]
)


def started(target: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """A process of its own that calls `target`; functions of tests can be called there."""
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


def ended(target: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """The same, once it has ended."""
    process = started(target, *arguments)
    process.join()
    return process


def killed(process: ForkServerProcess) -> None:
    """Ends it as `kill -9` does; it must not have ended by itself."""
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def command(
    words: Sequence[str], said: Path = Path(os.devnull), largest_file: int | None = None
) -> None:
    """Runs `longrope factors` there, what it prints going to the file `said`.

    Writing beyond `largest_file` bytes fails in the middle, as on a full disk.
    """
    sys.stdout = sys.stderr = said.open("w")
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from longrope_factors.cli import app

    app(list(words))
