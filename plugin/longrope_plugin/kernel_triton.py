"""The rotation of q and k by packed positions, in Triton.

Bound by moving q and k through memory once: the angles need no table (see `turns`), and cos and
sin are computed once for each token and dimension pair and used for all heads. Imported only
where Triton runs, or is interpreted.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens"])
def rotate(
    packed,  # int64 [tokens], see `packing`
    query,  # [tokens, query_heads, head_size], any strides but the last one's, which is 1
    key,
    rotated_query,  # where the results go; the same as query and key for a rotation in place
    rotated_key,
    turns,  # a TurnTable's three tensors
    start_tokens,
    attention_factor,
    tokens,
    query_stride,  # of a token; then of a head
    query_head_stride,
    key_stride,
    key_head_stride,
    rotated_query_stride,
    rotated_query_head_stride,
    rotated_key_stride,
    rotated_key_head_stride,
    sets: tl.constexpr,
    pairs: tl.constexpr,
    head_size: tl.constexpr,
    query_heads: tl.constexpr,
    key_heads: tl.constexpr,  # 0 without a key
    is_neox_style: tl.constexpr,
    in_place: tl.constexpr,
    block_tokens: tl.constexpr,
    block_heads: tl.constexpr,
    block_pairs: tl.constexpr,
    block_rest: tl.constexpr,  # at least head_size - 2 * pairs
):
    """Program (i, j) rotates every n-th block of heads, from the j-th, of the i-th token block.

    n is the grid's second size. Any packed position is harmless: its set is clamped.
    """
    token = tl.program_id(0).to(tl.int64) * block_tokens + tl.arange(0, block_tokens)
    is_token = token < tokens
    pair = tl.arange(0, block_pairs)
    here = tl.load(packed + token, mask=is_token, other=0)
    position = here & 0xFFFFFFFF
    factor_set = tl.minimum(tl.maximum(here >> 32, 0), sets - 1)
    is_start = position < tl.load(start_tokens + factor_set)
    row = tl.where(is_start, sets, factor_set)
    turn = tl.load(
        turns + row[:, None] * pairs + pair[None, :], mask=pair[None, :] < pairs, other=0
    )
    cos, sin = cos_sin(position[:, None] * turn)
    factor = tl.load(attention_factor + factor_set)[:, None]
    cos = (cos * factor)[:, None, :]
    sin = (sin * factor)[:, None, :]
    rotate_heads(
        query + token[:, None, None] * query_stride,
        rotated_query + token[:, None, None] * rotated_query_stride,
        query_head_stride,
        rotated_query_head_stride,
        is_token[:, None, None],
        cos,
        sin,
        query_heads,
        pairs,
        head_size,
        is_neox_style,
        in_place,
        block_heads,
        block_pairs,
        block_rest,
    )
    if key_heads:
        rotate_heads(
            key + token[:, None, None] * key_stride,
            rotated_key + token[:, None, None] * rotated_key_stride,
            key_head_stride,
            rotated_key_head_stride,
            is_token[:, None, None],
            cos,
            sin,
            key_heads,
            pairs,
            head_size,
            is_neox_style,
            in_place,
            block_heads,
            block_pairs,
            block_rest,
        )


@triton.jit
def cos_sin(units):
    """cos and sin, float32, of angles in units of 2^-64 turn, int64: within 2e-7 at any angle.

    The nearest quarter turn is taken off in integers, where it is exact; what is left, within
    pi/4, goes into the polynomials of Cephes (sinf.c). So the interpreter computes what a GPU
    does, and no GPU's own approximations have a part.
    """
    turn = (units >> 32).to(tl.uint32)
    quarter = (turn + 0x20000000) >> 30
    rest = (turn - (quarter << 30)).to(tl.int32, bitcast=True)
    x = rest.to(tl.float32) * 1.4629180792671596e-09  # 2 pi / 2^32
    xx = x * x
    near_sin = ((-1.9515295891e-4 * xx + 8.3321608736e-3) * xx - 1.6666654611e-1) * xx * x + x
    near_cos = (2.443315711809948e-5 * xx - 1.388731625493765e-3) * xx + 4.166664568298827e-2
    near_cos = near_cos * xx * xx - 0.5 * xx + 1.0
    is_odd = (quarter & 1) != 0
    cos = tl.where(is_odd, near_sin, near_cos)
    sin = tl.where(is_odd, near_cos, near_sin)
    return (
        tl.where(((quarter + 1) & 2) != 0, -cos, cos),
        tl.where((quarter & 2) != 0, -sin, sin),
    )


@triton.jit
def rotate_heads(
    x,  # pointers to the tokens' rows, [block_tokens, 1, 1]
    rotated,
    head_stride,
    rotated_head_stride,
    is_token,
    cos,  # float32 [block_tokens, 1, block_pairs]
    sin,
    heads: tl.constexpr,
    pairs: tl.constexpr,
    head_size: tl.constexpr,
    is_neox_style: tl.constexpr,
    in_place: tl.constexpr,
    block_heads: tl.constexpr,
    block_pairs: tl.constexpr,
    block_rest: tl.constexpr,
):
    """RoFormer (arXiv 2104.09864), equation 34, for this program's share of the heads."""
    share = tl.num_programs(1) * block_heads
    for first_head in range(tl.program_id(1) * block_heads, heads, share):
        head = (first_head + tl.arange(0, block_heads))[None, :, None]
        is_head = is_token & (head < heads)
        source = x + head * head_stride
        target = rotated + head * rotated_head_stride
        if is_neox_style:
            pair = tl.arange(0, block_pairs)[None, None, :]
            mask = is_head & (pair < pairs)
            a = tl.load(source + pair, mask=mask, other=0).to(tl.float32)
            b = tl.load(source + pair + pairs, mask=mask, other=0).to(tl.float32)
            tl.store(target + pair, (a * cos - b * sin).to(rotated.dtype.element_ty), mask=mask)
            tl.store(
                target + pair + pairs, (b * cos + a * sin).to(rotated.dtype.element_ty), mask=mask
            )
        else:
            column = tl.arange(0, 2 * block_pairs)[None, None, :]
            mask = is_head & (column < 2 * pairs)
            both = tl.load(source + column, mask=mask, other=0).to(tl.float32)
            a, b = tl.split(both.reshape(is_token.shape[0], block_heads, block_pairs, 2))
            both = tl.join(a * cos - b * sin, b * cos + a * sin)
            both = both.reshape(is_token.shape[0], block_heads, 2 * block_pairs)
            tl.store(target + column, both.to(rotated.dtype.element_ty), mask=mask)
        if not in_place and head_size > 2 * pairs:
            column = (2 * pairs + tl.arange(0, block_rest))[None, None, :]
            mask = is_head & (column < head_size)
            tl.store(target + column, tl.load(source + column, mask=mask, other=0), mask=mask)
