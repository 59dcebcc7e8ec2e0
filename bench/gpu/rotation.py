"""`python -m bench.gpu.rotation`: the rotation on a GPU against others, as ratios.

Every time is that of the GPU alone: calls are captured in a CUDA graph, each on memory of its own,
and replayed after the L2 cache was overwritten, in turns with what they are compared with. Needs
PyTorch, Triton and pydantic; without vLLM its columns stay empty.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity, Provenance
from longrope_plugin.compat import hooks
from longrope_plugin.rotation import kernel
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
from torch import nn

from bench.gpu import report, timing
from bench.vllm_longrope import vllm_longrope

TOKENS = (1, 8, 64, 256, 1024, 2048, 4096, 8192, 32_768)
POSITIONS = 2**21
ORIGINAL = 4096
DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Shape:
    """The attention heads of a model."""

    name: str
    query_heads: int
    key_heads: int
    head_size: int

    @property
    def widths(self) -> list[int]:
        """The widths of q, k and v in their common projection."""
        return [n * self.head_size for n in (self.query_heads, self.key_heads, self.key_heads)]

    def moved_bytes(self, tokens: int) -> int:
        """q and k, read and written once."""
        return 2 * tokens * sum(self.widths[:2]) * DTYPE.itemsize

    def calls(self, tokens: int) -> int:
        """The number of calls in one replay, each on memory of its own."""
        return max(1, min(32, timing.OVERWRITTEN // self.moved_bytes(tokens)))


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
    projection: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor

    @classmethod
    def of(cls, shape: Shape, tokens: int, dtype: torch.dtype = DTYPE) -> "Tokens":
        """The last positions, their sets mixed."""
        positions = torch.arange(POSITIONS - tokens, POSITIONS)
        packed = pack(positions, torch.arange(tokens) % 2)
        projection = torch.randn(tokens, sum(shape.widths), dtype=dtype)
        query, key, _ = projection.split(shape.widths, dim=-1)
        return cls(positions, packed, projection, query, key)


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


def plain_table(shape: Shape) -> torch.Tensor:
    """cos and sin of plain RoPE, as vLLM's layer for it keeps them: [positions, head_size]."""
    pairs = shape.head_size // 2
    frequency = 10_000.0 ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
    angles = torch.outer(torch.arange(POSITIONS, dtype=torch.float32), frequency)
    return torch.cat((angles.cos().to(DTYPE), angles.sin().to(DTYPE)), dim=-1)


def vllms_kernel_is_missing() -> str | None:
    """Why vLLM's kernel for plain RoPE cannot be used on this device; None if it can."""
    query = torch.zeros(1, 64, dtype=DTYPE)
    position = torch.zeros(1, dtype=torch.int64)
    try:
        hooks.rotate_by_table(position, query, query.clone(), 64, query.clone(), True)
    except Exception as error:  # a part of vLLM may be broken in any way: its column stays empty
        return reason(error)
    return None


def reason(error: Exception) -> str:
    """The error's cause, in one line."""
    cause = error.__cause__ or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:200]


def by_vllms_kernel(each: Tokens, table: torch.Tensor, shape: Shape) -> None:
    """vLLM's plain RoPE."""
    hooks.rotate_by_table(each.positions, each.query, each.key, shape.head_size, table, True)


def by_table_in_triton(each: Tokens, table: torch.Tensor, shape: Shape) -> None:
    """The same by our kernel, with the table in place of the turns."""
    from bench.gpu import triton_variants

    tokens, pairs = len(each.positions), shape.head_size // 2
    grid, sizes = kernel.grid_and_blocks(tokens, shape.query_heads, shape.key_heads, pairs)
    triton_variants.rotate_by_table[grid](
        each.positions,
        each.query,
        each.key,
        table,
        tokens,
        each.query.stride(0),
        each.key.stride(0),
        pairs=pairs,
        query_heads=shape.query_heads,
        key_heads=shape.key_heads,
        **sizes,
    )


def moved_once(each: Tokens, shape: Shape) -> None:
    """q and k through memory once, in place: no rotation can be faster."""
    from bench.gpu import triton_variants

    tokens, width = len(each.positions), sum(shape.widths[:2])
    block_width = math.gcd(width, 1024)
    block_tokens = 4096 // block_width
    triton_variants.negate[-(-tokens // block_tokens), width // block_width](
        each.projection,
        tokens,
        each.projection.stride(0),
        width=width,
        block_tokens=block_tokens,
        block_width=block_width,
    )


def compiled(layer: nn.Module, shape: Shape) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """The layer on positions and a projection, compiled as in vLLM: for any number of tokens."""

    def rotate(positions: torch.Tensor, projection: torch.Tensor) -> object:
        query, key, _ = projection.split(shape.widths, dim=-1)
        return layer(positions, query, key)

    rotate_compiled = torch.compile(rotate, fullgraph=True)

    def call(positions: torch.Tensor, projection: torch.Tensor) -> object:
        for tensor in (positions, projection):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return rotate_compiled(positions, projection)

    return call


def ours(shape: Shape) -> dict[str, Call]:
    """What is measured, by name."""
    layer = LongRoPERotaryEmbedding(factor_file(shape), shape.head_size, is_neox_style=True)
    layer_compiled = compiled(layer, shape)
    return {
        "in_place": lambda each: layer(each.packed, each.query, each.key),
        "compiled": lambda each: layer_compiled(each.packed, each.projection),
    }


def others(shape: Shape, has_vllms_kernel: bool) -> dict[str, Call]:
    """What it is compared with, except vLLM's longrope layer."""
    plain = plain_table(shape)
    by_table = by_vllms_kernel if has_vllms_kernel else by_table_in_triton
    return {
        "moved": lambda each: moved_once(each, shape),
        "table": lambda each: by_table(each, plain, shape),
    }


def vllms(shape: Shape) -> dict[str, Call]:
    """vLLM's longrope layer. Raises whatever vLLM raises if a part of it is missing."""
    layer = vllm_longrope(factor_file(shape), shape.head_size)
    layer_compiled = compiled(layer, shape)
    return {
        "phi3": lambda each: layer(each.positions, each.query, each.key),
        "phi3_compiled": lambda each: layer_compiled(each.positions, each.projection),
    }


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


def measure(
    candidates: dict[str, Call], inputs: list[Tokens], missing: dict[str, str]
) -> dict[str, float]:
    """Seconds per call, by name. If a part of vLLM fails, the reason goes into `missing`."""
    graphs = {}
    for name, call in candidates.items():
        try:
            graphs[name] = timing.captured(call, inputs)
        except Exception as error:
            if name not in ("phi3", "phi3_compiled", "table"):
                raise
            missing[name] = reason(error)
    return {name: seconds / len(inputs) for name, seconds in timing.seconds(graphs).items()}


def row(shape: Shape, tokens: int, times: dict[str, float]) -> report.Row:
    """Times in seconds by name and their ratios, `None` where one was not measured."""
    return {
        "model": shape.name,
        "tokens": tokens,
        "seconds": times,
        "bytes_per_second": shape.moved_bytes(tokens) / times["in_place"],
        **{
            f"{ours}/{other}": times[ours] / times[other] if other in times else None
            for ours, other in report.RATIOS
        },
    }


def rows(missing: dict[str, str]) -> Iterator[report.Row]:
    """The figures, as they are measured."""
    has_vllms_kernel = "vLLM's kernel" not in missing
    for shape in SHAPES:
        check(shape)
        # Otherwise, earlier shapes would count towards torch's limit on recompilations.
        torch.compiler.reset()
        candidates = {**ours(shape), **others(shape, has_vllms_kernel)}
        try:
            candidates |= vllms(shape)
        except Exception as error:
            missing["phi3"] = missing["phi3_compiled"] = reason(error)
        for tokens in TOKENS:
            inputs = [Tokens.of(shape, tokens) for _ in range(shape.calls(tokens))]
            yield row(shape, tokens, measure(candidates, inputs, missing))


def table_bytes(shape: Shape) -> dict[str, Any]:
    """Bytes kept for the angles of 2,097,152 positions: ours, and a table of one set's in bf16."""
    ours = LongRoPERotaryEmbedding(factor_file(shape), shape.head_size, is_neox_style=True)
    return {
        "model": shape.name,
        "ours": sum(b.numel() * b.element_size() for b in ours.buffers()),
        "table": POSITIONS * shape.head_size * DTYPE.itemsize,
    }


def versions() -> dict[str, str | None]:
    """The GPU's name, and the versions of what runs on it."""
    import triton

    try:
        from vllm.version import __version__ as vllm
    except ImportError:
        vllm = None
    return {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "vllm": vllm,
    }


def run(output: Path | None) -> None:
    """Prints each row as soon as it is measured, and writes all rows so far."""
    figures: dict[str, Any] = versions()
    missing: dict[str, str] = {}
    why_not = vllms_kernel_is_missing()
    if why_not is not None:
        missing["vLLM's kernel"] = why_not
    figures |= {
        "bytes": [table_bytes(shape) for shape in SHAPES],
        "copied_bytes_per_second": timing.copied_bytes_per_second(),
        "missing": missing,
        "rows": [],
    }
    print(*report.head(), sep="\n", flush=True)
    for row in rows(missing):
        figures["rows"].append(row)
        print(report.line(row), flush=True)
        if output is not None:
            output.write_text(json.dumps(figures, indent=1) + "\n")
    print("", *report.largest(figures["rows"]), "", sep="\n")
    print(
        f"{figures['device']}, torch {figures['torch']}, triton {figures['triton']}, "
        f"vLLM {figures['vllm']}; PyTorch copies {figures['copied_bytes_per_second'] / 1e9:.0f} "
        "GB/s, read and written."
    )
    for model in figures["bytes"]:
        print(
            f"{model['model']}: {model['ours']:,} bytes kept for the angles of {POSITIONS:,} "
            f"positions, a table's would be {model['table']:,}."
        )
    if why_not is not None:
        print(f"The plain table was read by a Triton kernel, for want of vLLM's ({why_not}).")
    for name in ("phi3", "phi3_compiled", "table"):
        if name in missing:
            print(f"{name} was not measured: {missing[name]}")


def main() -> None:
    """Prints the rotation's time on this GPU, relative to vLLM's and to moving q and k once."""
    parser = argparse.ArgumentParser(prog="bench-gpu", description=main.__doc__)
    parser.add_argument("-o", type=Path, dest="output", help="also write the figures here, JSON")
    output = parser.parse_args().output
    if kernel.device_type() is None:
        sys.stderr.write(
            "This benchmark needs a GPU that PyTorch and Triton can use, and there is none here.\n"
        )
        sys.exit(2)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    torch.set_default_device("cuda")
    with torch.inference_mode():
        run(output)


if __name__ == "__main__":
    main()
