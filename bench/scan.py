"""The cost of scanning a body before it is parsed (`json_scan`)."""

import json
import pydoc_data.topics
import random
import statistics
import time
from collections.abc import Callable

from longrope_server.front_end.bodies.json_scan import JSONScan
from rich.table import Table

TOKENS = 2_097_152
CHUNK = 1 << 16  # as uvicorn reads
ROUNDS = 5


def scan_table() -> Table:
    """Seconds for bodies of 2,097,152 tokens, scanned and parsed by Python's `json`."""
    table = Table("body of 2,097,152 tokens", "MiB", "our scan", "json.loads", "ratio")
    for name, body in _bodies().items():
        scanned, parsed = _median(lambda: _scan(body)), _median(lambda: json.loads(body))  # noqa: B023
        table.add_row(
            name,
            f"{len(body) / 2**20:.0f}",
            f"{scanned:.3f} s",
            f"{parsed:.3f} s",
            f"{scanned / parsed:.2f}",
        )
    return table


def _bodies() -> dict[str, bytes]:
    """Bodies of about TOKENS tokens: numbers, 4 bytes of English, or Chinese characters."""
    topics = "\n\n".join(pydoc_data.topics.topics.values())
    english = topics * (4 * TOKENS // len(topics))
    chinese = "长绳" * (TOKENS // 2)
    ids = random.Random(0).choices(range(1_000_000), k=TOKENS)
    return {
        "token ids": json.dumps({"prompt": ids}).encode(),
        "English": json.dumps({"prompt": english}).encode(),
        "Chinese": json.dumps({"prompt": chinese}, ensure_ascii=False).encode(),
        "Chinese as escapes": json.dumps({"prompt": chinese}).encode(),
    }


def _scan(body: bytes) -> None:
    scan = JSONScan()
    for place in range(0, len(body), CHUNK):
        scan.feed(body[place : place + CHUNK])
    scan.finish()


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
