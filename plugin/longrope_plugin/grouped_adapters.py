"""LoRA on a CPU: one product for all tokens with one adapter, in compiled code too.

vLLM's own gathers the adapter's weights anew for each token, gives tokens without an adapter the
last slot's where every slot is taken (vllm #48421), and cannot be compiled. Here those tokens are
not touched, and compiled code sees a layer's adapters as one operator, which knows only when it
runs whose tokens they are.
"""

from typing import Any

import torch

from longrope_plugin.compat import PunicaWrapperCPU

# A step's tokens by the slot of their adapter: a slice where they lie side by side, else their
# indices, int64. Tokens without an adapter are in no group.
Groups = tuple[tuple[int, slice | torch.Tensor], ...]


class GroupedAdapters(PunicaWrapperCPU):
    """vLLM's keeper of which token has which adapter, with a product for each adapter."""

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Notes which tokens of the next forward pass have which adapter."""
        super().update_metadata(*args, **kwargs)
        slots = self.token_lora_indices
        _next_pass.groups = tuple(
            (slot, _side_by_side((slots == slot).nonzero().flatten()))
            for slot in slots.unique().tolist()
            if slot >= 0
        )

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        """Adds scale * x A^T B^T to y, in place (LoRA, arXiv 2106.09685, section 4.1).

        y: [n, sum of output_slices]. x: [n, in]. For each slice A is [slots, 1, rank, in] and
        B [slots, 1, out, rank].
        """
        torch.ops.longrope.add_adapters(
            y.view(-1, y.shape[-1]),
            x.view(-1, x.shape[-1]),
            list(lora_a_stacked),
            list(lora_b_stacked),
            scale,
            list(output_slices),
        )


class _NextPass:
    """The forward pass that this process runs next; there is only one at a time."""

    groups: Groups = ()


_next_pass = _NextPass()


def _add_adapters(
    y: torch.Tensor,
    x: torch.Tensor,
    a: list[torch.Tensor],
    b: list[torch.Tensor],
    scale: float,
    widths: list[int],
) -> None:
    for slot, tokens in _next_pass.groups:
        rows, start = x[tokens], 0
        lows = (rows @ torch.cat([each[slot, 0] for each in a]).T).chunk(len(a), 1)
        for low, up, width in zip(lows, b, widths, strict=True):
            columns, transposed = y[:, start : start + width], up[slot, 0, :width].T
            if isinstance(tokens, slice):
                columns[tokens].addmm_(low, transposed, alpha=scale)
            else:
                columns.index_add_(0, tokens, low @ transposed, alpha=scale)
            start += width


def _side_by_side(indices: torch.Tensor) -> slice | torch.Tensor:
    """A slice for ascending indices without a gap, else the indices."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


_library = torch.library.Library("longrope", "FRAGMENT")
_library.define(
    "add_adapters" + torch.library.infer_schema(_add_adapters, mutates_args=("y",)),
)
_library.impl("add_adapters", _add_adapters, "CPU")
torch.library.register_fake("longrope::add_adapters", lambda *_: None, lib=_library)
