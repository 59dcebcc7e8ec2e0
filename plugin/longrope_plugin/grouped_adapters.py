"""LoRA on a CPU: one product for all tokens with one adapter.

vLLM's own gathers the adapter's weights anew for each token, and gives tokens without an adapter
the last slot's where every slot is taken (vllm #48421). Here those tokens are not touched.
"""

from typing import Any

import torch

from longrope_plugin.compat import PunicaWrapperCPU


class GroupedAdapters(PunicaWrapperCPU):
    """vLLM's keeper of which token has which adapter, with a product for each adapter.

    groups: of a step's tokens, by the slot of their adapter: a slice where they lie side by side,
    else their indices, int64. Tokens that have none are in no group.
    """

    groups: tuple[tuple[int, slice | torch.Tensor], ...] = ()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Notes which tokens of the next step have which adapter."""
        super().update_metadata(*args, **kwargs)
        slots = self.token_lora_indices
        self.groups = tuple(
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
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for slot, tokens in self.groups:
            rows, start = x[tokens], 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                columns = y[:, start : start + width]
                up, low = b[slot, 0, :width].T, rows @ a[slot, 0].T
                if isinstance(tokens, slice):
                    columns[tokens].addmm_(low, up, alpha=scale)
                else:
                    columns.index_add_(0, tokens, low @ up, alpha=scale)
                start += width


def _side_by_side(indices: torch.Tensor) -> slice | torch.Tensor:
    """A slice for ascending indices without a gap, else the indices."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices
