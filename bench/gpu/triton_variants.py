"""Triton kernels that the GPU benchmark compares with. Import it only where Triton runs."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import triton
import triton.language as tl
from longrope_plugin.rotation.kernel_triton import heads_of, load_pairs, rotate_heads


@triton.jit(do_not_specialize=["tokens"])
def negate(
    x,
    tokens,
    stride,
    width: tl.constexpr,
    block_tokens: tl.constexpr,
    block_width: tl.constexpr,
):
    """Moves the first columns of x through memory once, in place.

    The sign changes, so nothing is left out. The grid's second size is the number of blocks in
    the width.
    """
    token = tl.program_id(0).to(tl.int64) * block_tokens + tl.arange(0, block_tokens)[:, None]
    column = tl.program_id(1) * block_width + tl.arange(0, block_width)[None, :]
    mask = (token < tokens) & (column < width)
    where = x + token * stride + column
    negative = -tl.load(where, mask=mask, other=0).to(tl.float32)
    tl.store(where, negative.to(x.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def rotate_by_table(
    positions,
    query,
    key,
    cos_sin,  # [positions, 2 * pairs]
    tokens,
    query_stride,
    key_stride,
    pairs: tl.constexpr,
    query_heads: tl.constexpr,
    key_heads: tl.constexpr,
    block_tokens: tl.constexpr,
    block_heads: tl.constexpr,
    block_pairs: tl.constexpr,
):
    """Our kernel with a table of cos and sin in place of the turns; neox layout, in place."""
    token = tl.program_id(0).to(tl.int64) * block_tokens + tl.arange(0, block_tokens)
    is_token = token < tokens
    rows = query, key, query_stride, 2 * pairs, key_stride, 2 * pairs
    position = tl.load(positions + token, mask=is_token, other=0)
    x, is_here = heads_of(
        rows, tl.program_id(1), token, is_token, query_heads, key_heads, block_heads
    )
    a, b = load_pairs(x, is_here, pairs, True, block_pairs)
    tl.debug_barrier()
    pair = tl.arange(0, block_pairs)[None, :]
    row = cos_sin + position[:, None] * (2 * pairs) + pair
    cos = tl.load(row, mask=pair < pairs, other=0)
    sin = tl.load(row + pairs, mask=pair < pairs, other=0)
    cos = cos.to(tl.float32)[:, None, :]
    sin = sin.to(tl.float32)[:, None, :]
    rotate_heads(rows, rows, a, b, cos, sin, token, is_token, query_heads, key_heads, pairs,
                 2 * pairs, True, True, block_heads, block_pairs, 1)  # fmt: skip
