"""`python -m bench.mixed`: chats while documents are prefilled, on two servers.

Stock is vLLM's own server without any plug-in and at its defaults, ours is `longrope serve`. Both
serve the same model, whose config has the two lists that stock vLLM knows, up to the long list's
length, and take turns with the same requests, which `longrope loadtest` sends.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from longrope_factors.factor_file import hf, schema, shipped
from longrope_factors.formats import two_lists
from longrope_server.serve import embedded
from rich.console import Console
from rich.table import Table

from bench.servers import BARE, OURS, VLLM, running

NAME = "mixed"  # of the model, for both servers
Figures = dict[str, Any]


def main(
    output: Annotated[Path, typer.Option("-o", help="New directory for the load test's results.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model with two lists in its config. Default: the embedded one with two lists."
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="Profile, as for `longrope loadtest run`.")
    ] = "mixed",
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of both servers; each round has its own seed.")
    ] = 2,
    flag: Annotated[
        list[str] | None, typer.Option(help="Flag for our server only; may be repeated.")
    ] = None,
    flag_of_both: Annotated[
        list[str] | None, typer.Option(help="Flag for both servers; may be repeated.")
    ] = None,
    plug_in_alone: Annotated[
        bool,
        typer.Option(
            "--plug-in-alone",
            help="Let our server be vLLM's own with the plug-in, if vLLM is too old for "
            "`longrope serve`. Needs a build of vLLM for GPUs.",
        ),
    ] = False,
) -> None:
    """Print chats' TTFT and gaps, goodput and documents' times on both servers, and the ratios."""
    if output.exists():
        sys.exit(f"{output} is there already: name a new directory with -o.")
    with TemporaryDirectory() as directory, ExitStack() as stack:
        served = model or _embedded_with_two_lists(Path(directory))
        longest = hf.two_list(hf.read_config(served)).max_length
        words = [str(served), "--served-model-name", NAME, f"--max-model-len={longest}"]
        words += flag_of_both or ()
        bare = (VLLM, ["serve", *words]) if plug_in_alone else (BARE, words)
        stock = running(*bare, VLLM_PLUGINS="")
        ours = running(VLLM if plug_in_alone else OURS, ["serve", *words, *(flag or ())])
        urls = {"stock": stack.enter_context(stock), "ours": stack.enter_context(ours)}
        for number in range(rounds):
            for name, url in urls.items():
                _load(profile, url, output / f"{name}-{number}", seed=number)
    results = {
        name: [_figures(output / f"{name}-{number}") for number in range(rounds)] for name in urls
    }
    Console().print(_table(results["stock"], results["ours"]))


def _embedded_with_two_lists(directory: Path) -> Path:
    source = embedded.model_directory()
    for file in source.iterdir():
        if file.name != "config.json":
            (directory / file.name).symlink_to(file)
    factor_file = schema.load(shipped.path("smollm2-135m-untuned"))
    config, _ = two_lists.hf_config(hf.read_config(source), factor_file)
    two_lists.write_config(config, directory / "config.json")
    return directory


def _load(profile: str, url: str, output: Path, seed: int) -> None:
    command = [sys.executable, "-c", OURS, "loadtest", "run", profile, "--url", url]
    done = subprocess.run([*command, "-o", str(output), "--seed", str(seed)])
    if done.returncode not in (0, 1):  # 1: objectives were missed, which this benchmark should show
        sys.exit(f"The load on {url} ended with status {done.returncode}.")


def _figures(directory: Path) -> Figures:
    figures: Figures = json.loads((directory / "result.json").read_text())["figures"]
    return figures


def _table(stock: list[Figures], ours: list[Figures]) -> Table:
    table = Table("", "stock", "ours", "ours / stock")
    for label, class_name, metric, at in (
        ("chats: TTFT p50", "chat", "ttft_intended", "p50"),
        ("chats: TTFT p99", "chat", "ttft_intended", "p99"),
        ("chats: time between tokens p50", "chat", "itl", "p50"),
        ("chats: time between tokens p99", "chat", "itl", "p99"),
        ("documents: TTFT p50", "document", "ttft_intended", "p50"),
        ("documents: whole time p50", "document", "e2e_intended", "p50"),
    ):
        values = [_mean(of, class_name, "latency", metric, at) for of in (stock, ours)]
        table.add_row(label, *_cells(values, " s"))
    for label, name in (
        ("chats within their objectives", "share_of_requests"),
        ("chats within them per second", "good_requests_per_second"),
    ):
        values = [_mean(of, "chat", "goodput", name) for of in (stock, ours)]
        table.add_row(label, *_cells(values, ""))
    return table


def _cells(values: list[float | None], unit: str) -> list[str]:
    """Both values, and ours over the other; "-" where there is none."""
    stock, ours = values
    ratio = "-" if not stock or ours is None else f"{ours / stock:.3f}"
    return [*("-" if value is None else f"{value:.2f}{unit}" for value in values), ratio]


def _mean(rounds: list[Figures], *keys: str) -> float | None:
    """The mean of the rounds; None if one of them has no such figure, as where all have failed."""
    total = 0.0
    for figures in rounds:
        value: Any = figures
        for key in keys:
            value = None if value is None else value[key]
        if value is None:
            return None
        total += value
    return total / len(rounds)


if __name__ == "__main__":
    typer.run(main)
