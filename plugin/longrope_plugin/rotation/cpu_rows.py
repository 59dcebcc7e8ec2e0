"""Remembers the cos and sin of the last positions asked for, on a CPU.

All layers of a forward pass ask for the same positions. Positions are compared by value, never by
address, so the function stays pure and what it remembers cannot be stale.
"""

import torch

from longrope_plugin.rotation.turns import TurnTable


class _LastRows:
    def __init__(self) -> None:
        self._turns: torch.Tensor | None = None
        self._packed = torch.empty(0, dtype=torch.int64)
        self._cos_sin = torch.empty(0)
        self._indices = torch.empty(0, dtype=torch.int64)

    def get(
        self,
        packed: torch.Tensor,
        turns: torch.Tensor,
        start_tokens: torch.Tensor,
        attention_factor: torch.Tensor,
        sections: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not (
            self._turns is turns
            and self._cos_sin.dtype == dtype
            and torch.equal(self._packed, packed)
        ):
            table = TurnTable(turns, start_tokens, attention_factor, sections)
            self._cos_sin = table.cos_sin(packed, dtype)
            self._packed = packed.clone()
            self._turns = turns
            self._indices = torch.arange(packed.shape[-1])
        return self._indices, self._cos_sin


rows = _LastRows().get
"""Row indices int64 [n] and rows `dtype` [n, rotary_dim] for packed positions int64 [n] or
[rows, n].

The other arguments are the tensors of a TurnTable. The caller must not write to the results.
"""


def _cos_sin(
    packed: torch.Tensor,
    turns: torch.Tensor,
    start_tokens: torch.Tensor,
    attention_factor: torch.Tensor,
    sections: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    # Copied, because compiled code reuses the memory of what it is given.
    return rows(packed, turns, start_tokens, attention_factor, sections, dtype)[1].clone()


# `torch.ops.longrope.cos_sin`, for compiled code, which cannot compare positions by value.
_library = torch.library.Library("longrope", "FRAGMENT")
_library.define("cos_sin" + torch.library.infer_schema(_cos_sin, mutates_args=()))
_library.impl("cos_sin", _cos_sin, dispatch_key="CPU")
torch.library.register_fake(
    "longrope::cos_sin",
    lambda packed, turns, start_tokens, attention_factor, sections, dtype: packed.new_empty(
        (packed.shape[-1], 2 * turns.shape[1]), dtype=dtype
    ),
    lib=_library,
)
