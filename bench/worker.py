"""`python -m bench.worker`: a CPU engine without a worker process against one with it."""

import os
import statistics
import time
from collections import defaultdict
from typing import Annotated

import httpx
import typer
from longrope_server.serve.command import compose
from longrope_server.serve.environment import WORKER_PROCESS
from rich.console import Console
from rich.table import Table

from bench.completions import complete
from bench.servers import BARE, running

VARIANTS = {"with (vLLM's default)": "1", "without": "0"}
ANSWER = 64


def main(
    flags: Annotated[list[str] | None, typer.Argument(help="Flags of `longrope serve`.")] = None,
    tokens: Annotated[int, typer.Option(min=16, help="Tokens of a prompt.")] = 4096,
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each engine.")] = 3,
) -> None:
    """Print how long SmolLM2-135M takes to start, read a prompt and answer, and the ratios.

    The engines run one at a time, and take turns in going first.
    """
    words = compose([*(flags or []), "--max-model-len", str(tokens + ANSWER)]).words
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        variants = list(VARIANTS.items())
        for name, value in reversed(variants) if number % 2 else variants:
            began = time.perf_counter()
            with running(BARE, words, **{WORKER_PROCESS: value}) as url:
                seconds["start", name].append(time.perf_counter() - began)
                with httpx.Client(base_url=url, timeout=None) as client:
                    complete(client, 16, 1, number)
                    seconds["prompt", name].append(complete(client, tokens, 1, number))
                    seconds["answer", name].append(complete(client, 16, ANSWER + 1, number))
    title = f"A worker process on {len(os.sched_getaffinity(0))} cores"
    table = Table("", *VARIANTS, "without / with", title=title)
    for task, label in (
        ("start", "until it is healthy"),
        ("prompt", f"a prompt of {tokens:,} tokens"),
        ("answer", f"an answer of {ANSWER} tokens"),
    ):
        with_it, without = (statistics.median(seconds[task, name]) for name in VARIANTS)
        table.add_row(label, f"{with_it:.1f} s", f"{without:.1f} s", f"{without / with_it:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
