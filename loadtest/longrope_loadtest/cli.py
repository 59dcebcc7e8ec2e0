"""`longrope loadtest`: load a server, and read the results."""

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from longrope_loadtest import live_view
from longrope_loadtest.capacity.command import find_capacity
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import profile as profiles
from longrope_loadtest.profiles import shipped
from longrope_loadtest.report import write_report
from longrope_loadtest.results import gate, results
from longrope_loadtest.results.compare import compared, print_comparison
from longrope_loadtest.results.figures import share_within_objectives
from longrope_loadtest.run.driving import Target
from longrope_loadtest.run.preflight import served_model
from longrope_loadtest.sweep.command import rates_of, sweep
from longrope_loadtest.whole_run import Load, run_load

app = typer.Typer(
    help="Load an OpenAI-compatible server, and read the results.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
MISSED, WRONG, INTERRUPTED = 1, 2, 130


ProfileName = Annotated[
    str, typer.Argument(metavar="PROFILE", help="A YAML file, or the name of a shipped profile.")
]
Url = Annotated[str, typer.Option(help="Address of the server, with or without /v1.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="New directory for the result. Default: loadtest-PROFILE-DATE."
    ),
]
ModelName = Annotated[
    str | None, typer.Option(help="Model to load. Default: the first that the server lists.")
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=profiles.MOST_SEED,
        help="Seed that determines the requests. Default: the profile's.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar=["LONGROPE_API_KEY", "OPENAI_API_KEY"],
        help="Key for the server; better set in the environment.",
    ),
]
ResetCache = Annotated[
    bool,
    typer.Option(
        "--reset-cache",
        help="Empty the server's prefix cache before each run; needs VLLM_SERVER_DEV_MODE=1 there.",
    ),
]
LOCAL = "http://127.0.0.1:8000"


def _load(
    profile: str,
    url: str,
    output: Path | None,
    model: str | None,
    seed: int | None,
    key: str | None,
    reset_cache: bool,
) -> Load:
    """The arguments of `run`, `capacity` and `sweep`, looked up."""
    path = shipped.find(profile)
    loaded = profiles.load(path)
    base = url.rstrip("/").removesuffix("/v1")
    served = served_model(base, key, model)
    return Load(
        profile=loaded,
        seed=loaded.seed if seed is None else seed,
        target=Target(base, served.name, key, reset_cache),
        model=served,
        directory=output or Path(f"loadtest-{path.stem}-{datetime.now():%Y%m%d-%H%M%S}"),
        profile_directory=path.parent,
    )


@app.command()
def run(
    profile: ProfileName,
    url: Url = LOCAL,
    output: Output = None,
    model: ModelName = None,
    seed: Seed = None,
    api_key: ApiKey = None,
    reset_cache: ResetCache = False,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that send, where one would be saturated.")
    ] = 1,
    find_the_capacity: Annotated[bool, typer.Option("--find-capacity", hidden=True)] = False,
    repeats: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Send a profile's requests to a server; write JSON, CSV and an HTML report.

    Exit status 0: the share of requests within their objectives is at least the profile's
    `attainment`; 1: it is less, no request was counted, or a process that sent requests died; 2: an
    error was found before any request was sent; 130: Ctrl-C. What there is of a result is written
    in every case but 2.
    """
    console = Console(stderr=True)
    with _one_sentence():
        if find_the_capacity or repeats is not None:
            raise UsageError(
                "--find-capacity is a command now, and --repeats its option: "
                f"`longrope loadtest capacity {profile}`."
            )
        load = _load(profile, url, output, model, seed, api_key, reset_cache)
        result = run_load(load, load.plan(), console, processes=processes)
        live_view.print_summary(result, console)
        path = write_report(result)
        console.print(f"{path}", markup=False, highlight=False, soft_wrap=True)
    if result.about["interrupted"]:
        sys.exit(INTERRUPTED)
    figures = result.about["figures"]
    share = share_within_objectives(figures)
    is_enough = share is not None and share >= load.profile.attainment
    sys.exit(0 if is_enough and not result.about["client"]["deaths"] else MISSED)


@app.command("capacity")
def capacity(
    profile: ProfileName,
    url: Url = LOCAL,
    output: Output = None,
    model: ModelName = None,
    seed: Seed = None,
    api_key: ApiKey = None,
    reset_cache: ResetCache = False,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Runs at each rate.")] = 3,
) -> None:
    """Find the highest rate at which a server meets a profile's objectives.

    Each run's result is in a folder of the directory; capacity.json has the rates. Exit status 0:
    there is such a rate; 1: there is none; 2: an error was found; 130: Ctrl-C. The rates that were
    tried until then are kept.
    """
    with _one_sentence():
        load = _load(profile, url, output, model, seed, api_key, reset_cache)
        try:
            outcome = find_capacity(load, repeats, Console(stderr=True))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
    sys.exit(0 if outcome.rate is not None else MISSED)


@app.command("sweep")
def sweep_rates(
    profile: ProfileName,
    url: Url = LOCAL,
    output: Output = None,
    model: ModelName = None,
    seed: Seed = None,
    api_key: ApiKey = None,
    reset_cache: ResetCache = False,
    rates: Annotated[
        str | None,
        typer.Option(
            help="Requests a second, separated by commas. Default: from a quarter of the profile's "
            "rate to four times it."
        ),
    ] = None,
) -> None:
    """Run a profile at several rates, and draw latency against rate.

    Each run's result is in a folder of the directory; sweep.html has the curves and sweep.json
    their figures. Exit status 0: every run was made; 2: an error was found; 130: Ctrl-C. The runs
    that were made until then are kept.
    """
    with _one_sentence():
        load = _load(profile, url, output, model, seed, api_key, reset_cache)
        try:
            sweep(load, rates_of(rates, load.profile), Console(stderr=True))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


@app.command()
def report(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Directory of the result.")
    ],
) -> None:
    """Write a result's report.html again, and print its figures."""
    with _one_sentence():
        result = results.read(directory)
        live_view.print_summary(result, Console())
        typer.echo(write_report(result))


@app.command()
def compare(
    a: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="Directory of the baseline result.")
    ],
    b: Annotated[Path, typer.Argument(metavar="OTHER", help="Directory of the other result.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    fail_above: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="RATIO",
            help="Fail if a latency is more than so many times the baseline's, such as 1.1.",
        ),
    ] = None,
) -> None:
    """Compare OTHER's figures with BASELINE's, class by class, with 95 % confidence intervals.

    With --fail-above, exit status 1: OTHER is worse than that, or lacks what BASELINE has; 2: an
    error, too few requests, or a run that ended early.
    """
    with _one_sentence():
        comparison = compared(results.read(a), results.read(b))
        failed = [] if fail_above is None else gate.failures(comparison, fail_above)
    if as_json:
        typer.echo(json.dumps(comparison.as_json(), indent=1))
    else:
        print_comparison(comparison, Console())
    for sentence in failed:
        print(f"longrope: {sentence}", file=sys.stderr)
    sys.exit(MISSED if failed else 0)


@app.command("profiles")
def list_profiles(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print the YAML of this profile.")
    ] = None,
) -> None:
    """List the shipped profiles, or print one as a starting point for your own."""
    with _one_sentence():
        if name is not None:
            typer.echo(shipped.find(name).read_text(encoding="utf-8"), nl=False)
            return
        for shipped_name in shipped.names():
            profile = profiles.load(shipped.find(shipped_name))
            typer.echo(f"{shipped_name:16}{profile.description}")


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        print(f"longrope: {error}", file=sys.stderr)
        sys.exit(WRONG)
