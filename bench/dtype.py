"""`python -m bench.dtype`: float32 against bfloat16 on this CPU."""

import statistics
from contextlib import ExitStack
from typing import Annotated

import httpx
import torch
import typer
from longrope_factors.cpu import lacks_bfloat16
from rich.console import Console
from rich.table import Table

from bench.completions import complete
from bench.servers import bare_server

DTYPES = ("bfloat16", "float32")
ANSWER = 64


def main(
    tokens: Annotated[int, typer.Option(min=16, help="Tokens of a prompt.")] = 4096,
    rounds: Annotated[int, typer.Option(min=1, help="Prompts and answers for each dtype.")] = 3,
) -> None:
    """Print what a prompt and an answer take on SmolLM2-135M with each dtype, and the ratio.

    Both servers are there from the beginning, and take turns.
    """
    length = ("--max-model-len", str(tokens + ANSWER))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                httpx.Client(
                    base_url=stack.enter_context(bare_server("--dtype", dtype, *length)),
                    timeout=None,
                )
            )
            for dtype in DTYPES
        ]
        prompts: list[list[float]] = [[], []]
        answers: list[list[float]] = [[], []]
        for number in range(rounds):
            for client, prompt, answer in zip(clients, prompts, answers, strict=True):
                complete(client, 16, 1, number)  # wakes it
                prompt.append(complete(client, tokens, 1, number))
                answer.append(complete(client, 16, ANSWER + 1, number))
    verb = "lacks" if lacks_bfloat16(torch.cpu.get_capabilities()) else "has"
    table = Table("", *DTYPES, "bfloat16 / float32", title=f"This CPU {verb} bfloat16")
    for name, seconds in (
        (f"a prompt of {tokens:,} tokens", prompts),
        (f"an answer of {ANSWER} tokens", answers),
    ):
        bfloat16, float32 = (statistics.median(times) for times in seconds)
        table.add_row(name, f"{bfloat16:.1f} s", f"{float32:.1f} s", f"{bfloat16 / float32:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
