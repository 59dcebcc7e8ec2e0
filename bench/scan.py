"""The cost of looking through a body before it is parsed (`json_scan`, `estimate`)."""

import base64
import json
import pydoc_data.topics
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from longrope_server.front_end.admission.estimate import tokens_in
from longrope_server.front_end.bodies.json_scan import JSONScan
from rich.table import Table

TOKENS = 2_097_152
CHUNK = 1 << 16  # as uvicorn reads
ROUNDS = 5


def scan_table() -> Table:
    """Seconds for large bodies: our scan, our estimate of their tokens, and Python's `json`."""
    table = Table("body", "MiB", "our scan", "our estimate", "json.loads", "ratio")
    for name, body in _bodies().items():
        chunks = [body[place : place + CHUNK] for place in range(0, len(body), CHUNK)]
        scanned, estimated = (_median(partial(call, chunks)) for call in (_scan, tokens_in))
        parsed = _median(partial(json.loads, body))
        table.add_row(
            name,
            f"{len(body) / 2**20:.0f}",
            *(f"{seconds:.3f} s" for seconds in (scanned, estimated, parsed)),
            f"{(scanned + estimated) / parsed:.2f}",
        )
    return table


def _bodies() -> dict[str, bytes]:
    """Bodies of about TOKENS tokens: numbers, 4 bytes of English, or Chinese characters.

    And one of 20 photos of 3 MB.
    """
    topics = "\n\n".join(pydoc_data.topics.topics.values())
    english = topics * (4 * TOKENS // len(topics))
    chinese = "长绳" * (TOKENS // 2)
    ids = random.Random(0).choices(range(1_000_000), k=TOKENS)
    photo = base64.b64encode(random.Random(0).randbytes(3_000_000)).decode()
    return {
        "token ids": json.dumps({"prompt": ids}).encode(),
        "English": json.dumps({"prompt": english}).encode(),
        "Chinese": json.dumps({"prompt": chinese}, ensure_ascii=False).encode(),
        "Chinese as escapes": json.dumps({"prompt": chinese}).encode(),
        "20 photos": json.dumps({"content": [f"data:image/jpeg;base64,{photo}"] * 20}).encode(),
    }


def _scan(chunks: Sequence[bytes]) -> None:
    scan = JSONScan()
    for chunk in chunks:
        scan.feed(chunk)
    scan.finish()


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
