"""`python -m bench.server`: latencies of short chats, in pairs, on two servers."""

import random
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import typer
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.scan import scan_table
from bench.servers import bare_server, our_server

KEY = "bench"
WARM_UP = 10


def main(
    pairs: Annotated[
        int, typer.Option(min=20, help="Chats on each server, streamed and not.")
    ] = 200,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 8,
) -> None:
    """Print the latency of a short chat with our pieces and without, and the ratio.

    Both servers have the same engine with the same factor sets. Ours asks for a key and has limits.
    First, without a server, the time of our look at the largest bodies over that of parsing them.
    """
    Console().print(scan_table())
    with TemporaryDirectory() as directory, ExitStack() as stack:
        keys = Path(directory) / "keys"
        keys.write_text(key_file.line_of(Key(KEY, key_file.digest_of(KEY))))
        ours = stack.enter_context(our_server(keys))
        bare = stack.enter_context(bare_server())
        clients = [stack.enter_context(_client(url)) for url in (ours, bare)]
        table = Table("short chat", "", "with our pieces", "bare vLLM", "ratio")
        for stream in (False, True):
            seconds: list[list[float]] = [[], []]
            for number in track(
                range(WARM_UP + pairs),
                description=f"{stream=}",
                console=Console(stderr=True),
            ):
                order = [0, 1]
                random.Random(number).shuffle(order)
                for which in order:
                    took = _chat(clients[which], number, tokens, stream)
                    if number >= WARM_UP:
                        seconds[which].append(took)
            kind = "streamed" if stream else "whole"
            for name, at in (("p50", 50), ("p99", 99)):
                ours_at, bare_at = (statistics.quantiles(times, n=100)[at - 1] for times in seconds)
                table.add_row(
                    kind,
                    name,
                    f"{1000 * ours_at:.1f} ms",
                    f"{1000 * bare_at:.1f} ms",
                    f"{ours_at / bare_at:.3f}",
                )
            paired = statistics.median(a / b for a, b in zip(*seconds, strict=True))
            table.add_row(kind, "median of the pairs' ratios", "", "", f"{paired:.3f}")
        Console().print(table)


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def _chat(client: httpx.Client, number: int, tokens: int, stream: bool) -> float:
    """Seconds of one chat, from the request to its last byte."""
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": f"{number}: what is the capital of France?"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
    }
    began = time.perf_counter()
    answer = client.post("/v1/chat/completions", json=body)
    took = time.perf_counter() - began
    if answer.status_code != 200:
        sys.exit(f"A chat got status {answer.status_code}: {answer.text[:500]}")
    return took


if __name__ == "__main__":
    typer.run(main)
