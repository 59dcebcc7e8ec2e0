"""The rotary embedding that replaces vLLM's for `rope_type: longrope`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from longrope_factors.factor_file.schema import FactorFile, FactorFileError
from torch import nn

from longrope_plugin.compat import hooks
from longrope_plugin.rotation import cpu_rows, kernel
from longrope_plugin.rotation.sections import sections
from longrope_plugin.rotation.turns import TurnTable, turn_table


class LongRoPERotaryEmbedding(nn.Module):
    """Rotates each token by its packed position, under the factor set packed with it.

    Supports any number of sets, each with start tokens and an attention factor, partial rotary
    dimensions, neox and interleaved layouts, and tokens with several positions (`sections`, as in
    a TurnTable). Its small tables do not grow with any length.
    """

    def __init__(
        self,
        factor_file: FactorFile,
        head_size: int,
        is_neox_style: bool,
        sections: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.factor_file = factor_file
        self.head_size = head_size
        self.rotary_dim = factor_file.model.rotary_dim
        self.is_neox_style = is_neox_style
        table = turn_table(factor_file, sections)
        self.register_buffer("turns", table.turns, persistent=False)
        self.register_buffer("start_tokens", table.start_tokens, persistent=False)
        self.register_buffer("attention_factor", table.attention_factor, persistent=False)
        self.register_buffer("sections", table.sections, persistent=False)
        # The same tensors, in a place where the CPU path finds them in a tenth of the time.
        self._on_cpu = (
            table.turns,
            table.start_tokens,
            table.attention_factor,
            table.sections,
        )
        self._kernel_device = kernel.device_type()
        if self._kernel_device is not None:
            kernel.register()

    @property
    def _tables(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A TurnTable's tensors but for its sections, on the layer's device."""
        return self.turns, self.start_tokens, self.attention_factor

    def forward(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rotates query and key.

        positions: int64 [n], packed, or [rows, n]. query: [n, heads * head_size] or [n, heads,
        head_size]. key: likewise, with its own number of heads, or None. Returns tensors of the
        same shapes.
        """
        assert offsets is None, "longrope positions are absolute"
        if query.device.type == self._kernel_device and positions.ndim == 1:
            return self._by_kernel(positions, query, key)
        if query.device.type == "cpu" and not torch.compiler.is_compiling():
            # vLLM's kernel looks up rows of a table by position. Our table holds the cos and sin of
            # just these tokens, so they are looked up by token.
            indices, cos_sin = cpu_rows.rows(positions, *self._on_cpu, query.dtype)
            hooks.rotate_by_table(indices, query, key, self.head_size, cos_sin, self.is_neox_style)
            return query, key
        if query.device.type == "cpu":
            cos_sin = torch.ops.longrope.cos_sin(
                positions, *self._tables, self.sections, query.dtype
            )
        else:
            cos_sin = TurnTable(*self._tables, self.sections).cos_sin(positions, query.dtype)
        rotated_key = None if key is None else self._rotate(key, cos_sin)
        return self._rotate(query, cos_sin), rotated_key

    def _by_kernel(
        self, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        arguments = (positions, query, key, *self._tables, self.head_size, self.is_neox_style)
        if torch.compiler.is_compiling():
            rotated_query, rotated_key = torch.ops.longrope.rotated(*arguments)
            return rotated_query, None if key is None else rotated_key
        torch.ops.longrope.rotate_(*arguments)
        return query, key

    def _rotate(self, x: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
        """Out of place, so that it can be traced: RoFormer (arXiv 2104.09864), equation 34."""
        heads = x.view(x.shape[0], -1, self.head_size)
        cos, sin = cos_sin.unsqueeze(1).chunk(2, dim=-1)
        rotated, passed = heads[..., : self.rotary_dim], heads[..., self.rotary_dim :]
        if self.is_neox_style:
            first, second = rotated.chunk(2, dim=-1)
        else:
            first, second = rotated[..., ::2], rotated[..., 1::2]
        turned = (first * cos - second * sin, second * cos + first * sin)
        rotated = (
            torch.cat(turned, dim=-1)
            if self.is_neox_style
            else torch.stack(turned, dim=-1).flatten(-2)
        )
        return torch.cat((rotated, passed), dim=-1).view(x.shape)


@dataclass(frozen=True)
class LayerMaker:
    """What vLLM's `get_rope` calls in place of `Phi3LongRoPEScaledRotaryEmbedding`.

    The two lists that it is called with are not enough to build the layer, because they give two
    sets only and no start tokens. So it has the factor file of the model that is being loaded.

    rope_parameters: of the model's config.
    """

    factor_file: FactorFile
    rope_parameters: Mapping[str, Any]

    def __call__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position: int,
        original_max_position: int,
        base: float,
        is_neox_style: bool,
        dtype: torch.dtype,
        short_factor: list[float],
        long_factor: list[float],
        short_mscale: float | None = None,
        long_mscale: float | None = None,
    ) -> LongRoPERotaryEmbedding:
        """The layer. Raises FactorFileError if it does not match the factor file."""
        model = self.factor_file.model
        for field, layer, file in (
            ("rotary_dim", rotary_dim, model.rotary_dim),
            ("rope_theta", base, model.rope_theta),
            (
                "original_max_position_embeddings",
                original_max_position,
                model.original_max_position_embeddings,
            ),
        ):
            if layer != file:
                raise FactorFileError(
                    f"The model has a longrope layer with {field} {layer}, but its factor sets are "
                    f"for {field} {file}: one factor file serves one kind of layer."
                )
        return LongRoPERotaryEmbedding(
            self.factor_file, head_size, is_neox_style, sections(self.rope_parameters, rotary_dim)
        )
