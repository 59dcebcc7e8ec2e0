"""A token's position and its request's factor set in one int64.

Only the tensor passed to `model.forward(positions=...)` is packed; attention metadata and slot
mapping keep the plain position. So the rotary layer needs no state that could fall out of step with
the batch.
"""

import torch

SET_SHIFT = 32
POSITION_MASK = (1 << SET_SHIFT) - 1


def pack(positions: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """`position | set << 32` for int64 `positions` [n] and int64 `sets` [n]; returns int64 [n]."""
    return positions | (sets << SET_SHIFT)


def unpack(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and sets, both int64 [n], of a packed tensor; a plain position is set 0."""
    return packed & POSITION_MASK, packed >> SET_SHIFT
