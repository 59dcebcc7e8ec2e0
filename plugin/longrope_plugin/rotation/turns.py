"""Exact angles without a table: 64-bit fixed-point turns.

A dimension pair turns by f = base^(-2i/d) / (l_i 2 pi) of a full circle for each position
(LongRoPE, arXiv 2402.13753, equation 1). We store F = round(2^64 f). In wrapping 64-bit arithmetic,
position * F is then the angle in units of 2^-64 turn with all full circles already removed, so the
error does not grow with the angle: 2^21 positions * 2^-65 turn = 4e-13 rad, before the one rounding
to float32 that every method needs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from longrope_factors.factor_file.schema import FactorFile

from longrope_plugin.rotation.packing import unpack

_RADIANS_PER_UNIT = 2 * math.pi / 2**64


@dataclass(frozen=True)
class TurnTable:
    """The rotation of every set; its size does not depend on any length.

    turns: int64 [sets + 1, rotary_dim / 2]; the last row is the unscaled rotation, which the
    first `start_tokens` positions keep.
    start_tokens: int64 [sets].
    attention_factor: float32 [sets].
    sections: int64 [rotary_dim / 2], the row of a token's positions that each pair turns by; None
    for models whose tokens have one position (all but those with M-RoPE).
    """

    turns: torch.Tensor
    start_tokens: torch.Tensor
    attention_factor: torch.Tensor
    sections: torch.Tensor | None = None

    def cos_sin(self, packed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """cos and sin side by side, times the attention factor.

        packed: int64 [n] from `packing.pack`, or [rows, n]; of several positions, the first says
        whether a token is one of the start tokens. Returns `dtype` [n, rotary_dim].
        """
        positions, sets = unpack(packed)
        of_pairs = positions.unsqueeze(-1)
        if packed.ndim == 2:
            assert self.sections is not None, "tokens have several positions without sections"
            of_pairs = positions.index_select(0, self.sections).T
            positions, sets = positions[0], sets[0]
        unscaled_row = self.turns.shape[0] - 1
        is_start = positions < self.start_tokens.index_select(0, sets)
        rows = torch.where(is_start, unscaled_row, sets)
        # In place: fresh memory for every intermediate costs more than the arithmetic.
        units = self.turns.index_select(0, rows).mul_(of_pairs)
        angles = units.to(torch.float32).mul_(_RADIANS_PER_UNIT)
        cos_sin = torch.cat((angles.cos(), angles.sin_()), dim=1)
        return cos_sin.mul_(self.attention_factor.index_select(0, sets).unsqueeze(1)).to(dtype)


def turn_table(factor_file: FactorFile, sections: Sequence[int] | None = None) -> TurnTable:
    """The table of a factor file, on torch's default device."""
    model = factor_file.model
    unscaled = [1.0] * (model.rotary_dim // 2)
    rows = [_turns(model.rope_theta, s.factors) for s in factor_file.sets]
    rows.append(_turns(model.rope_theta, unscaled))
    return TurnTable(
        turns=torch.tensor(rows, dtype=torch.int64),
        start_tokens=torch.tensor([s.start_tokens for s in factor_file.sets], dtype=torch.int64),
        attention_factor=torch.tensor(
            [s.attention_factor for s in factor_file.sets], dtype=torch.float32
        ),
        sections=None if sections is None else torch.tensor(sections, dtype=torch.int64),
    )


def _turns(base: float, factors: Sequence[float]) -> list[int]:
    """Turns per position in units of 2^-64, as signed 64-bit integers."""
    pairs = len(factors)
    per_position = [
        round(2**64 * base ** (-i / pairs) / (factor * 2 * math.pi))
        for i, factor in enumerate(factors)
    ]
    return [(turn + 2**63) % 2**64 - 2**63 for turn in per_position]
