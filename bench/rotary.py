"""The rotary layer alone, on SmolLM2-135M's shape, as its 30 layers call it."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from longrope_factors.factor_file.schema import FactorFile, load
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
from rich.table import Table
from torch import nn

from bench.vllm_longrope import vllm_longrope

LAYERS, QUERY_HEADS, KEY_HEADS, HEAD_SIZE = 30, 9, 3, 64
TOKENS = (1, 64, 2048, 8192)
REPEATS = 15
DTYPE = torch.bfloat16


def measure(factors: Path) -> list[dict[str, float]]:
    """Seconds a layer for each number of tokens, and their ratios.

    Every pass has positions of its own, and its 30 layers share them, as in a model; q and k
    are views into one projection, as in a model. `first` is a pass's first layer alone, which
    computes the angles that the other 29 find.
    """
    factor_file = load(factors)
    layers: dict[str, Callable[..., Any]] = {
        "ours": LongRoPERotaryEmbedding(factor_file, HEAD_SIZE, is_neox_style=True),
        **_vllm_layers(factor_file),
    }
    rows = []
    for tokens in TOKENS:
        samples: dict[str, list[float]] = {name: [] for name in (*layers, "first")}
        for repeat in range(REPEATS + 2):
            for name, layer in layers.items():
                first, mean = _forward_pass(layer, tokens, repeat, packed=name == "ours")
                if repeat >= 2:
                    samples[name].append(mean)
                    if name == "ours":
                        samples["first"].append(first)
        row: dict[str, float] = {"tokens": tokens}
        row.update({name: statistics.median(values) for name, values in samples.items()})
        row["ratio_phi3"] = row["ours"] / row["phi3"]
        row["ratio_first_phi3"] = row["first"] / row["phi3"]
        row["ratio_fused"] = row["ours"] / row["fused"]
        rows.append(row)
    return rows


def _vllm_layers(factor_file: FactorFile) -> dict[str, Callable[..., Any]]:
    """vLLM's longrope layer, and the kernel of its plain layer on a full table."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

    phi3 = vllm_longrope(factor_file, HEAD_SIZE)
    with set_current_vllm_config(VllmConfig()):
        plain = RotaryEmbedding(
            HEAD_SIZE,
            HEAD_SIZE,
            factor_file.max_length,
            factor_file.model.rope_theta,
            True,
            DTYPE,
        )
    return {"phi3": phi3, "fused": plain.forward_cuda}


def _forward_pass(
    layer: Callable[..., Any], tokens: int, repeat: int, packed: bool
) -> tuple[float, float]:
    """Seconds of the first layer and of the mean layer of one pass."""
    positions = torch.arange(tokens) + repeat
    if packed:
        positions = pack(positions, torch.arange(tokens) % 2)
    widths = [QUERY_HEADS * HEAD_SIZE, KEY_HEADS * HEAD_SIZE, KEY_HEADS * HEAD_SIZE]
    projection = torch.randn(tokens, sum(widths), dtype=DTYPE)
    query, key, _ = projection.split(widths, dim=-1)
    times = [time.perf_counter()]
    for _ in range(LAYERS):
        layer(positions, query, key)
        times.append(time.perf_counter())
    return times[1] - times[0], (times[-1] - times[0]) / LAYERS


def table(rows: Any) -> Table:
    """The layer's figures for people."""
    result = Table(title="Rotary layer, SmolLM2-135M, bf16, microseconds a layer (median)")
    for column in ("tokens", "longrope", "vLLM longrope", "ratio", "vLLM plain, fused", "ratio"):
        result.add_column(column, justify="right")
    result.add_column("first layer / vLLM longrope", justify="right")
    for row in rows:
        result.add_row(
            str(row["tokens"]),
            f"{row['ours'] * 1e6:.1f}",
            f"{row['phi3'] * 1e6:.1f}",
            f"{row['ratio_phi3']:.2f}",
            f"{row['fused'] * 1e6:.1f}",
            f"{row['ratio_fused']:.2f}",
            f"{row['ratio_first_phi3']:.2f}",
        )
    return result


def measure_bytes(factors: Path) -> list[dict[str, int]]:
    """Bytes of buffers, ours and vLLM's, as served and stretched to 2,097,152 positions."""
    served = load(factors)
    last = served.sets[-1].model_copy(update={"max_length": 2**21})
    stretched = served.model_copy(update={"sets": (*served.sets[:-1], last)})
    rows = []
    for factor_file in (served, stretched):
        ours = LongRoPERotaryEmbedding(factor_file, HEAD_SIZE, is_neox_style=True)
        theirs = vllm_longrope(factor_file, HEAD_SIZE)
        rows.append(
            {
                "max_length": factor_file.max_length,
                "sets": len(factor_file.sets),
                "ours": _buffer_bytes(ours),
                "phi3": _buffer_bytes(theirs),
            }
        )
    return rows


def _buffer_bytes(layer: nn.Module) -> int:
    return sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())


def bytes_table(rows: Any) -> Table:
    """The memory figures for people."""
    result = Table(title="Rotary buffers, bytes")
    for column in ("max_length", "sets", "longrope", "vLLM longrope", "ratio"):
        result.add_column(column, justify="right")
    for row in rows:
        result.add_row(
            f"{row['max_length']:,}",
            str(row["sets"]),
            f"{row['ours']:,}",
            f"{row['phi3']:,}",
            f"{row['ours'] / row['phi3']:.6f}",
        )
    return result
