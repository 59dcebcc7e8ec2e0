"""The GPU's own time for calls, without the CPU's time for launching them."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

REPEATS = 30
OVERWRITTEN = 256 * 2**20  # bytes; several times any GPU's L2 cache
COPIED = 512 * 2**20  # bytes


def captured(call: Callable[[Any], object], inputs: Sequence[Any]) -> torch.cuda.CUDAGraph:
    """A CUDA graph that calls once with each input."""
    for arguments in inputs[:3]:
        call(arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # All results at once: if they took turns in the same memory, the L2 cache would hold it.
        results = [call(arguments) for arguments in inputs]
    del results
    return graph


def seconds(graphs: dict[str, torch.cuda.CUDAGraph]) -> dict[str, float]:
    """Seconds of one replay of each, by name: the median of replays that take turns, L2 cold."""
    cache = torch.empty(OVERWRITTEN, dtype=torch.uint8)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    samples: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(REPEATS + 3):
        for name, graph in graphs.items():
            # Repeated so that the GPU is busy until the CPU has launched what follows.
            for _ in range(4):
                cache.zero_()
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            samples[name].append(start.elapsed_time(end) / 1e3)
    return {name: statistics.median(times[3:]) for name, times in samples.items()}


def copied_bytes_per_second() -> float:
    """Bytes that PyTorch's copy reads and writes per second, of more than any cache holds."""
    x, y = (torch.empty(COPIED, dtype=torch.uint8) for _ in range(2))
    return 2 * COPIED / seconds({"copy": captured(lambda _: y.copy_(x), [None])})["copy"]
