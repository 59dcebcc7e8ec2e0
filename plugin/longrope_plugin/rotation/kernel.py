"""Rotates q and k on a GPU: two operators around one Triton kernel.

`torch.ops.longrope.rotate_` rotates in place. `torch.ops.longrope.rotated` writes new tensors,
which costs the same, and is the one that compiled code should call: q and k are parts of one
projection, and vLLM turns off the optimisation that keeps the compiler from copying all of the
projection for an in-place operator. Neither operator waits for the GPU, tunes itself or reads a
length from the GPU, so CUDA graphs capture both.
"""

import functools
import logging
from typing import Any

import torch

# The fastest overall for 1 to 32,768 tokens of three shapes, on an H200 (bench.gpu.blocks).
_HEADS, _PROGRAMS = 4, 4096
# Elements of each half of a block's pairs: 8 for each thread, which is 16 bytes of bfloat16.
_ELEMENTS = 1024
_WARPS = 2 if torch.version.hip else 4  # 128 threads

_logger = logging.getLogger(__name__)


@functools.cache
def device_type() -> str | None:
    """'cuda' (also for ROCm) if Triton can compile for this machine's GPU, else None."""
    if not torch.cuda.is_available():
        return None
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except Exception as error:  # no Triton, no compiler, no driver: all mean the same here
        _logger.warning(
            "Triton cannot be used on this GPU (%s: %s), so longrope rotates with PyTorch's own "
            "operators, which is slower.",
            type(error).__name__,
            error,
        )
        return None
    return "cuda"


def launch(
    packed: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor | None,
    rotated_query: torch.Tensor,
    rotated_key: torch.Tensor | None,
    turns: torch.Tensor,
    start_tokens: torch.Tensor,
    attention_factor: torch.Tensor,
    head_size: int,
    is_neox_style: bool,
    **blocks: int,
) -> None:
    """Rotates query and key into rotated_query and rotated_key, which may be the same tensors.

    packed: int64 [n], contiguous. query: [n, heads * head_size] or [n, heads, head_size], with the
    elements of a head side by side in memory; key: likewise, with its own number of heads.
    turns, start_tokens, attention_factor: the tensors of a TurnTable. blocks: options of
    `grid_and_blocks`.
    """
    from longrope_plugin.rotation import kernel_triton

    tokens = query.shape[0]
    if not tokens:
        return
    assert packed.is_contiguous()
    assert packed.shape[0] == tokens
    x, y = _by_head(query, head_size), _by_head(rotated_query, head_size)
    if key is None or rotated_key is None:
        x_key, y_key, key_heads = x, y, 0
    else:
        x_key, y_key = _by_head(key, head_size), _by_head(rotated_key, head_size)
        key_heads = x_key.shape[1]
    pairs = turns.shape[1]
    query_heads = x.shape[1]
    grid, sizes = grid_and_blocks(tokens, query_heads, key_heads, pairs, **blocks)
    kernel_triton.rotate[grid](
        packed,
        x,
        x_key,
        y,
        y_key,
        turns,
        start_tokens,
        attention_factor,
        tokens,
        *x.stride()[:2],
        *x_key.stride()[:2],
        *y.stride()[:2],
        *y_key.stride()[:2],
        sets=start_tokens.shape[0],
        pairs=pairs,
        head_size=head_size,
        query_heads=query_heads,
        key_heads=key_heads,
        is_neox_style=is_neox_style,
        in_place=x.data_ptr() == y.data_ptr(),
        block_rest=_next_power_of_2(max(1, head_size - 2 * pairs)),
        **sizes,
    )


def grid_and_blocks(
    tokens: int,
    query_heads: int,
    key_heads: int,
    pairs: int,
    *,
    block_heads: int = _HEADS,
    block_tokens: int | None = None,
    num_warps: int = _WARPS,
    programs: int = _PROGRAMS,
) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid, and the sizes (powers of two) of a program's block as the kernel's arguments.

    If there are few tokens, several programs share the heads of a token, so that up to `programs`
    of them run.
    """
    block_pairs = _next_power_of_2(pairs)
    if block_tokens is None:
        block_tokens = max(1, _ELEMENTS // (block_heads * block_pairs))
    token_blocks = -(-tokens // block_tokens)
    head_blocks = -(-query_heads // block_heads) - (-key_heads // block_heads)
    sizes = {
        "block_tokens": block_tokens,
        "block_heads": block_heads,
        "block_pairs": block_pairs,
        "num_warps": num_warps,
        # Does a multiplication and an addition in one step; not the default in every version of
        # Triton.
        "enable_fp_fusion": True,
    }
    return (token_blocks, max(1, min(head_blocks, programs // token_blocks))), sizes


def _by_head(x: torch.Tensor, head_size: int) -> torch.Tensor:
    heads = x.view(x.shape[0], -1, head_size)
    assert heads.stride(2) == 1, "a head's elements must lie side by side"
    return heads


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _rotate_(
    packed: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor | None,
    turns: torch.Tensor,
    start_tokens: torch.Tensor,
    attention_factor: torch.Tensor,
    head_size: int,
    is_neox_style: bool,
) -> None:
    tables = turns, start_tokens, attention_factor
    launch(packed, query, key, query, key, *tables, head_size, is_neox_style)


def _rotated(
    packed: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor | None,
    turns: torch.Tensor,
    start_tokens: torch.Tensor,
    attention_factor: torch.Tensor,
    head_size: int,
    is_neox_style: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    results = _results(packed, query, key)
    tables = turns, start_tokens, attention_factor
    rotated_key = None if key is None else results[1]
    launch(packed, query, key, results[0], rotated_key, *tables, head_size, is_neox_style)
    return results


def _results(
    packed: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for the rotated query and key; without a key, an operator still returns a tensor."""
    return query.new_empty(query.shape), query.new_empty(0 if key is None else key.shape)


@functools.cache
def register() -> torch.library.Library:
    """Registers the operators with PyTorch, once; does not import Triton."""
    library = torch.library.Library("longrope", "FRAGMENT")
    # On a CPU, Triton's interpreter runs them.
    for name, function, mutated, fake in (
        ("rotate_", _rotate_, ("query", "key"), lambda *_: None),
        ("rotated", _rotated, (), _results),
    ):
        library.define(name + torch.library.infer_schema(function, mutates_args=mutated))
        library.impl(name, function, dispatch_key="CompositeExplicitAutograd")
        torch.library.register_fake(f"longrope::{name}", fake, lib=library)
    return library
