"""Packs a whole batch on the device in one launch; nothing waits for the host.

Import it only where Triton runs or is interpreted.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import torch
import triton
import triton.language as tl

_BLOCK = 1024  # tokens that a program packs at once
_PROGRAMS = 16  # for one request; they loop over a longer one


def pack_batch(
    positions: torch.Tensor,
    factor_sets: torch.Tensor,
    slots: torch.Tensor,
    query_start_loc: torch.Tensor,
    packed: torch.Tensor,
) -> None:
    """Writes `position | set << 32` of every token into `packed`, and 0 where there is no token.

    positions, packed: int64 [n], with padding at the end. factor_sets: int32, by slot. slots:
    integers [requests], the slot of each request of the batch. query_start_loc: int32, at least
    [requests + 1]: where each request's tokens begin.
    """
    programs = max(1, min(_PROGRAMS, packed.shape[0] // _BLOCK))
    _pack_batch[slots.shape[0] + 1, programs](
        positions, factor_sets, slots, query_start_loc, packed, packed.shape[0], block=_BLOCK
    )


@triton.jit(do_not_specialize=["size"])
def _pack_batch(positions, factor_sets, slots, query_start_loc, packed, size, block: tl.constexpr):
    """Program (i, j) packs every n-th block of request i, from the j-th; the last i pads."""
    request = tl.program_id(0)
    requests = tl.num_programs(0) - 1
    begin = tl.load(query_start_loc + request) + tl.program_id(1) * block
    share = tl.num_programs(1) * block
    if request == requests:
        for first in tl.range(begin, size, share):
            token = first + tl.arange(0, block)
            tl.store(packed + token, 0, mask=token < size)
    else:
        end = tl.load(query_start_loc + request + 1)
        factor_set = tl.load(factor_sets + tl.load(slots + request)).to(tl.int64)
        for first in tl.range(begin, end, share):
            token = first + tl.arange(0, block)
            position = tl.load(positions + token, mask=token < end, other=0)
            tl.store(packed + token, position | (factor_set << 32), mask=token < end)
