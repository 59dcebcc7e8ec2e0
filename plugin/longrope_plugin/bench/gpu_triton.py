"""What the GPU benchmark compares with, in Triton. Imported only where Triton runs."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import triton
import triton.language as tl

from longrope_plugin.kernel_triton import rotate_heads


@triton.jit(do_not_specialize=["tokens"])
def negate(
    query,
    key,
    tokens,
    query_stride,
    key_stride,
    query_width: tl.constexpr,
    key_width: tl.constexpr,
    block_tokens: tl.constexpr,
    block_width: tl.constexpr,
):
    """Moves query and key through memory once, in place; the sign changes, so nothing is left out.

    The grid's second size is the number of blocks in query's width and in key's.
    """
    block = tl.program_id(1)
    query_blocks: tl.constexpr = (query_width + block_width - 1) // block_width
    if block < query_blocks:
        negate_block(query, tokens, query_stride, block, query_width, block_tokens, block_width)
    else:
        negate_block(
            key, tokens, key_stride, block - query_blocks, key_width, block_tokens, block_width
        )


@triton.jit
def negate_block(
    x,
    tokens,
    stride,
    block,
    width: tl.constexpr,
    block_tokens: tl.constexpr,
    block_width: tl.constexpr,
):
    """One block of a tensor [tokens, width]."""
    token = tl.program_id(0).to(tl.int64) * block_tokens + tl.arange(0, block_tokens)[:, None]
    column = block * block_width + tl.arange(0, block_width)[None, :]
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
    head_size: tl.constexpr,
    query_heads: tl.constexpr,
    key_heads: tl.constexpr,
    block_tokens: tl.constexpr,
    block_heads: tl.constexpr,
    block_pairs: tl.constexpr,
):
    """Our kernel with a table of cos and sin in place of the turns; neox layout, in place."""
    token = tl.program_id(0).to(tl.int64) * block_tokens + tl.arange(0, block_tokens)
    is_token = token < tokens
    pair = tl.arange(0, block_pairs)[None, :]
    position = tl.load(positions + token, mask=is_token, other=0)[:, None]
    row = cos_sin + position * (2 * pairs) + pair
    cos = tl.load(row, mask=pair < pairs, other=0).to(tl.float32)[:, None, :]
    sin = tl.load(row + pairs, mask=pair < pairs, other=0).to(tl.float32)[:, None, :]
    query += token[:, None, None] * query_stride
    key += token[:, None, None] * key_stride
    is_token = is_token[:, None, None]
    rotate_heads(query, query, head_size, head_size, is_token, cos, sin, query_heads, pairs,
                 head_size, True, True, block_heads, block_pairs, 1)  # fmt: skip
    rotate_heads(key, key, head_size, head_size, is_token, cos, sin, key_heads, pairs,
                 head_size, True, True, block_heads, block_pairs, 1)  # fmt: skip
