"""`python -m longrope_plugin.bench.gpu`: the rotation on a GPU against others, as ratios.

Every time is that of the GPU alone: calls are captured in a CUDA graph, each on a q and k of its
own, and replayed after the L2 cache was overwritten; the median of the replays counts.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from longrope_factors.schema import FactorFile, FactorSet, ModelIdentity, Provenance
from rich.console import Console
from rich.table import Table
from torch import nn

from longrope_plugin import compat, kernel
from longrope_plugin.bench import rotary
from longrope_plugin.packing import pack
from longrope_plugin.rotary import LongRoPERotaryEmbedding

TOKENS = (1, 8, 64, 256, 1024, 4096, 8192, 32_768)
POSITIONS = 2**21
ORIGINAL = 4096
DTYPE = torch.bfloat16
REPEATS = 30
OVERWRITTEN = 256 * 2**20  # bytes; several times any GPU's L2 cache


@dataclass(frozen=True)
class Shape:
    """The attention heads of a model."""

    name: str
    query_heads: int
    key_heads: int
    head_size: int

    @property
    def widths(self) -> list[int]:
        """Of q, k and v in their common projection."""
        return [n * self.head_size for n in (self.query_heads, self.key_heads, self.key_heads)]

    def moved_bytes(self, tokens: int) -> int:
        """q and k, read and written once."""
        return 2 * tokens * sum(self.widths[:2]) * DTYPE.itemsize

    def calls(self, tokens: int) -> int:
        """How many calls, each on memory of its own, make one replay."""
        return max(1, min(32, OVERWRITTEN // self.moved_bytes(tokens)))


SHAPES = (
    Shape("LLaMA2-7B", 32, 32, 128),
    Shape("Mistral-7B", 32, 8, 128),
    Shape("SmolLM2-135M", 9, 3, 64),
)


@dataclass(frozen=True)
class Tokens:
    """One call's input; q and k are parts of one projection, as in a model."""

    positions: torch.Tensor
    packed: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor

    @classmethod
    def of(cls, shape: Shape, tokens: int, dtype: torch.dtype = DTYPE) -> "Tokens":
        """The last positions, their sets mixed."""
        positions = torch.arange(POSITIONS - tokens, POSITIONS)
        projection = torch.randn(tokens, sum(shape.widths), dtype=dtype)
        query, key, _ = projection.split(shape.widths, dim=-1)
        return cls(positions, pack(positions, torch.arange(tokens) % 2), query, key)


Call = Callable[[Tokens], object]


def factor_file(shape: Shape) -> FactorFile:
    """Two sets, the longer one up to 2,097,152 tokens. Their numbers do not matter for time."""
    pairs = shape.head_size // 2
    provenance = Provenance(
        method="original", source="made up for timing", date="2026-11-25", tool_version="0"
    )
    sets = tuple(
        FactorSet(
            max_length=length,
            factors=tuple(1 + last * i / pairs for i in range(pairs)),
            start_tokens=0,
            attention_factor=1.0,
            provenance=provenance,
        )
        for length, last in ((ORIGINAL, 0.0), (POSITIONS, 511.0))
    )
    identity = ModelIdentity(
        name=shape.name,
        architecture="LlamaForCausalLM",
        rotary_dim=shape.head_size,
        rope_theta=10_000.0,
        original_max_position_embeddings=ORIGINAL,
    )
    return FactorFile(format="longrope-factors/1", model=identity, sets=sets)


def vllm_longrope(shape: Shape) -> nn.Module | None:
    """vLLM's own longrope layer with its table of all positions; None where vLLM is not there."""
    try:
        return rotary.vllm_longrope(factor_file(shape), shape.head_size)
    except ImportError:
        return None


def plain_table(shape: Shape) -> torch.Tensor:
    """cos and sin of plain RoPE, as vLLM's layer for it keeps them: [positions, head_size]."""
    pairs = shape.head_size // 2
    frequency = 10_000.0 ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
    angles = torch.outer(torch.arange(POSITIONS, dtype=torch.float32), frequency)
    return torch.cat((angles.cos().to(DTYPE), angles.sin().to(DTYPE)), dim=-1)


def has_vllms_kernel() -> bool:
    """Whether vLLM's kernel for plain RoPE is there for this device."""
    query = torch.zeros(1, 64, dtype=DTYPE)
    position = torch.zeros(1, dtype=torch.int64)
    try:
        compat.rotate_by_table(position, query, query.clone(), 64, query.clone(), True)
    except (ImportError, AttributeError, RuntimeError):
        return False
    return True


def by_vllms_kernel(each: Tokens, table: torch.Tensor, shape: Shape) -> None:
    """vLLM's plain RoPE."""
    compat.rotate_by_table(each.positions, each.query, each.key, shape.head_size, table, True)


def by_table_in_triton(each: Tokens, table: torch.Tensor, shape: Shape) -> None:
    """The same by our kernel, with the table in place of the turns."""
    from longrope_plugin.bench import gpu_triton

    block_heads, block_tokens = (4, 16) if shape.query_heads % 8 else (8, 4)
    gpu_triton.rotate_by_table[-(-len(each.positions) // block_tokens), 1](
        each.positions,
        each.query,
        each.key,
        table,
        len(each.positions),
        each.query.stride(0),
        each.key.stride(0),
        pairs=shape.head_size // 2,
        head_size=shape.head_size,
        query_heads=shape.query_heads,
        key_heads=shape.key_heads,
        block_tokens=block_tokens,
        block_heads=block_heads,
        block_pairs=shape.head_size // 2,
    )


def moved_once(each: Tokens) -> None:
    """q and k through memory once, in place: what no rotation can be faster than."""
    from longrope_plugin.bench import gpu_triton

    tokens, query_width, key_width = len(each.query), each.query.shape[1], each.key.shape[1]
    blocks = -(-query_width // 1024) + -(-key_width // 1024)
    gpu_triton.negate[-(-tokens // 4), blocks](
        each.query,
        each.key,
        tokens,
        each.query.stride(0),
        each.key.stride(0),
        query_width=query_width,
        key_width=key_width,
        block_tokens=4,
        block_width=1024,
    )


def calls(shape: Shape) -> dict[str, Call]:
    """What is timed, by name."""
    plain = plain_table(shape)
    by_table = by_vllms_kernel if has_vllms_kernel() else by_table_in_triton
    ours = LongRoPERotaryEmbedding(factor_file(shape), shape.head_size, is_neox_style=True)
    compiled = torch.compile(ours, fullgraph=True, dynamic=True)
    result: dict[str, Call] = {
        "in_place": lambda each: ours(each.packed, each.query, each.key),
        "compiled": lambda each: compiled(each.packed, each.query, each.key),
        "moved": moved_once,
        "table": lambda each: by_table(each, plain, shape),
    }
    theirs = vllm_longrope(shape)
    if theirs is not None:
        theirs_compiled = torch.compile(theirs, fullgraph=True, dynamic=True)
        result["phi3"] = lambda each: theirs(each.positions, each.query, each.key)
        result["phi3_compiled"] = lambda each: theirs_compiled(each.positions, each.query, each.key)
    return result


def check(shape: Shape) -> None:
    """Raises RuntimeError unless the kernel agrees with the traceable form, in float32."""
    layer = LongRoPERotaryEmbedding(factor_file(shape), shape.head_size, is_neox_style=True)
    each = Tokens.of(shape, 100, torch.float32)
    with mock.patch.object(layer, "_kernel_device", None):
        expected = layer(each.packed, each.query.clone(), each.key.clone())
    for x, y in zip(layer(each.packed, each.query, each.key), expected, strict=True):
        error = float((x - y).abs().max())
        if not error < 1e-5:
            raise RuntimeError(f"The kernel is wrong for {shape.name}: it is off by {error:.2g}.")


def seconds(call: Call, inputs: list[Tokens]) -> float:
    """The GPU's time for one call, the median of the replays."""
    for each in inputs[:3]:
        call(each)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for each in inputs:
            call(each)
    cache = torch.empty(OVERWRITTEN, dtype=torch.uint8)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    samples = []
    for _ in range(REPEATS + 3):
        cache.zero_()
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        samples.append(start.elapsed_time(end) / 1e3 / len(inputs))
    return statistics.median(samples[3:])


# Of what, over what.
RATIOS = (
    ("in_place", "phi3"),
    ("in_place", "phi3_compiled"),
    ("in_place", "table"),
    ("in_place", "moved"),
    ("compiled", "phi3_compiled"),
    ("compiled", "moved"),
)


def row(shape: Shape, tokens: int, times: dict[str, float]) -> dict[str, Any]:
    """Times in seconds by name and their ratios, `None` where one was not measured."""
    return {
        "model": shape.name,
        "tokens": tokens,
        "seconds": times,
        "bytes_per_second": shape.moved_bytes(tokens) / times["in_place"],
        **{
            f"{ours}/{other}": times[ours] / times[other] if other in times else None
            for ours, other in RATIOS
        },
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """The times for people."""
    result = Table(
        title="Rotating q and k, bf16, the GPU's time: microseconds, and ratios of ours over"
    )
    columns = ("model", "tokens", "in place", "vLLM longrope", "it compiled", "plain, table")
    for column in (*columns, "moved once", "compiled", "vLLM compiled", "moved once", "GB/s"):
        result.add_column(column, justify="left" if column == "model" else "right")
    for each in rows:
        ratios = [each[f"{ours}/{other}"] for ours, other in RATIOS]
        cells = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        in_place, compiled = (f"{each['seconds'][n] * 1e6:.1f}" for n in ("in_place", "compiled"))
        result.add_row(
            each["model"],
            f"{each['tokens']:,}",
            in_place,
            *cells[:4],
            compiled,
            *cells[4:],
            f"{each['bytes_per_second'] / 1e9:.0f}",
        )
    return result


def table_bytes(shape: Shape) -> dict[str, Any]:
    """Bytes kept for the angles of 2,097,152 positions: ours, and a table of one set's in bf16."""
    ours = LongRoPERotaryEmbedding(factor_file(shape), shape.head_size, is_neox_style=True)
    return {
        "model": shape.name,
        "ours": sum(b.numel() * b.element_size() for b in ours.buffers()),
        "table": POSITIONS * shape.head_size * DTYPE.itemsize,
    }


def main(
    output: Annotated[Path | None, typer.Option("-o", help="Also write the figures here.")] = None,
) -> None:
    """Prints the rotation's time on this GPU over vLLM's and over moving q and k once."""
    if kernel.device_type() is None:
        typer.echo(
            "This benchmark needs a GPU that PyTorch and Triton can use, and there is none here.",
            err=True,
        )
        raise typer.Exit(2)
    console = Console(width=160)
    torch.set_default_device("cuda")
    rows = []
    with torch.inference_mode():
        for shape in SHAPES:
            check(shape)
            candidates = calls(shape)
            for tokens in TOKENS:
                inputs = [Tokens.of(shape, tokens) for _ in range(shape.calls(tokens))]
                times = {name: seconds(call, inputs) for name, call in candidates.items()}
                rows.append(row(shape, tokens, times))
        kept = [table_bytes(shape) for shape in SHAPES]
    console.print(table(rows))
    whose = "vLLM's own kernel" if has_vllms_kernel() else "a Triton kernel, for want of vLLM's"
    console.print(
        f"On {torch.cuda.get_device_name()}, L2 cold; the plain table is read by {whose}. "
        "Bytes for 2,097,152 positions: "
        + ", ".join(f"{each['model']} {each['ours']:,} over {each['table']:,}" for each in kept)
        + "."
    )
    if "phi3" not in rows[0]["seconds"]:
        console.print("vLLM is not installed here, so its longrope layer was not measured.")
    if output is not None:
        figures = {"device": torch.cuda.get_device_name(), "rows": rows, "bytes": kept}
        output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
