"""The rotation of q and k by packed positions, in Triton.

Its time is that of moving q and k through memory once: the angles need no table (see `turns`), and
cos and sin are computed once for each token and dimension pair and used for all heads of a program.
Import it only where Triton runs or is interpreted.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens"])
def rotate(
    packed,  # int64 [tokens], see `packing`
    query,  # [tokens, query_heads, head_size], with any strides, as long as the last is 1
    key,
    rotated_query,  # where the results go; the same as query and key for a rotation in place
    rotated_key,
    turns,  # a TurnTable's three tensors
    start_tokens,
    attention_factor,
    tokens,
    query_stride,  # from token to token; the next is from head to head
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

    n is the grid's second size; the blocks of key follow those of query. Any packed position is
    safe, because its set is clamped.
    """
    token = tl.program_id(0).to(tl.int64) * block_tokens + tl.arange(0, block_tokens)
    is_token = token < tokens
    source = query, key, query_stride, query_head_stride, key_stride, key_head_stride
    target = (
        rotated_query,
        rotated_key,
        rotated_query_stride,
        rotated_query_head_stride,
        rotated_key_stride,
        rotated_key_head_stride,
    )
    pair = tl.arange(0, block_pairs)
    # Issue all independent loads before waiting for any of them: a short call is a chain of such
    # waits. The barrier keeps NVIDIA's compiler from changing that order; it does not wait for
    # memory.
    here = tl.load(packed + token, mask=is_token, other=0)
    unscaled = tl.load(turns + sets * pairs + pair, mask=pair < pairs, other=0)
    x, is_here = heads_of(
        source, tl.program_id(1), token, is_token, query_heads, key_heads, block_heads
    )
    a, b = load_pairs(x, is_here, pairs, is_neox_style, block_pairs)
    tl.debug_barrier()
    position = here & 0xFFFFFFFF
    factor_set = tl.minimum(tl.maximum(here >> 32, 0), sets - 1)
    turn = tl.load(
        turns + factor_set[:, None] * pairs + pair[None, :], mask=pair[None, :] < pairs, other=0
    )
    is_start = position < tl.load(start_tokens + factor_set)
    factor = tl.load(attention_factor + factor_set)[:, None]
    cos, sin = cos_sin(position[:, None] * tl.where(is_start[:, None], unscaled[None, :], turn))
    rotate_heads(
        source,
        target,
        a,
        b,
        (cos * factor)[:, None, :],
        (sin * factor)[:, None, :],
        token,
        is_token,
        query_heads,
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

    The nearest quarter turn is subtracted in integers, which is exact. The rest, within pi/4, goes
    into the polynomials of Cephes (sinf.c). So the interpreter computes what a GPU does, and no
    GPU's own approximation is used.
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
    source,  # query, key, and for each the strides of a token and of a head
    target,
    a,  # both halves of the pairs in the program's first block, from `load_pairs`
    b,
    cos,  # float32 [block_tokens, 1, block_pairs]
    sin,
    token,
    is_token,
    query_heads: tl.constexpr,
    key_heads: tl.constexpr,
    pairs: tl.constexpr,
    head_size: tl.constexpr,
    is_neox_style: tl.constexpr,
    in_place: tl.constexpr,
    block_heads: tl.constexpr,
    block_pairs: tl.constexpr,
    block_rest: tl.constexpr,
):
    """RoFormer (arXiv 2104.09864), equation 34, for this program's blocks of heads."""
    query_blocks: tl.constexpr = (query_heads + block_heads - 1) // block_heads
    key_blocks: tl.constexpr = (key_heads + block_heads - 1) // block_heads
    for block in range(tl.program_id(1), query_blocks + key_blocks, tl.num_programs(1)):
        x, is_here = heads_of(source, block, token, is_token, query_heads, key_heads, block_heads)
        y, _ = heads_of(target, block, token, is_token, query_heads, key_heads, block_heads)
        if block != tl.program_id(1):
            a, b = load_pairs(x, is_here, pairs, is_neox_style, block_pairs)
        first, second = a.to(tl.float32), b.to(tl.float32)
        store_pairs(
            y,
            (first * cos - second * sin).to(a.dtype),
            (second * cos + first * sin).to(a.dtype),
            is_here,
            pairs,
            is_neox_style,
            block_pairs,
        )
        if not in_place and head_size > 2 * pairs:
            column = 2 * pairs + tl.arange(0, block_rest)
            mask = is_here & (column < head_size)
            tl.store(y + column, tl.load(x + column, mask=mask, other=0), mask=mask)


@triton.jit
def heads_of(
    rows,  # query, key, and for each the strides of a token and of a head
    block,
    token,
    is_token,
    query_heads: tl.constexpr,
    key_heads: tl.constexpr,
    block_heads: tl.constexpr,
):
    """Pointers [block_tokens, block_heads, 1] to the heads of a block, and whether they exist."""
    query, key, query_stride, query_head_stride, key_stride, key_head_stride = rows
    query_blocks: tl.constexpr = (query_heads + block_heads - 1) // block_heads
    # Choose between numbers, not between tensors: only then does the compiler see that it can move
    # 16 bytes at a time.
    is_query = block < query_blocks
    stride = tl.where(is_query, query_stride, key_stride)
    head_stride = tl.where(is_query, query_head_stride, key_head_stride)
    heads = tl.where(is_query, query_heads, key_heads)
    first = tl.where(is_query, block, block - query_blocks) * block_heads
    head = (first + tl.arange(0, block_heads))[None, :, None]
    pointers = tl.where(is_query, query, key) + token[:, None, None] * stride + head * head_stride
    return pointers, is_token[:, None, None] & (head < heads)


@triton.jit
def load_pairs(
    x, is_here, pairs: tl.constexpr, is_neox_style: tl.constexpr, block_pairs: tl.constexpr
):
    """Both halves of the pairs, [block_tokens, block_heads, block_pairs]."""
    if is_neox_style:
        pair = tl.arange(0, block_pairs)
        mask = is_here & (pair < pairs)
        a = tl.load(x + pair, mask=mask, other=0)
        b = tl.load(x + pair + pairs, mask=mask, other=0)
    else:
        column = tl.arange(0, 2 * block_pairs)
        both = tl.load(x + column, mask=is_here & (column < 2 * pairs), other=0)
        a, b = tl.split(both.reshape(both.shape[0], both.shape[1], block_pairs, 2))
    return a, b


@triton.jit
def store_pairs(
    y, a, b, is_here, pairs: tl.constexpr, is_neox_style: tl.constexpr, block_pairs: tl.constexpr
):
    """Stores both halves of the pairs where `load_pairs` would find them."""
    if is_neox_style:
        pair = tl.arange(0, block_pairs)
        mask = is_here & (pair < pairs)
        tl.store(y + pair, a, mask=mask)
        tl.store(y + pair + pairs, b, mask=mask)
    else:
        column = tl.arange(0, 2 * block_pairs)
        both = tl.join(a, b).reshape(a.shape[0], a.shape[1], 2 * block_pairs)
        tl.store(y + column, both, mask=is_here & (column < 2 * pairs))
