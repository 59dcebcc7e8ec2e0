"""LoRA on a CPU: one product for all tokens with the same adapter, in compiled code too.

vLLM's own implementation gathers an adapter's weights anew for each token, gives tokens without an
adapter the weights of the last slot if every slot is taken (vllm #48421), and cannot be compiled.
This one leaves tokens without an adapter alone, and compiled code sees the adapters of a layer as
one operator, which learns only when it runs which tokens have which adapter.
"""

import weakref
from typing import Any, NamedTuple

import torch

from longrope_plugin.compat.names import (
    BaseLinearLayerWithLoRA,
    PunicaWrapperCPU,
    get_forward_context,
)

# The tokens of a step by the slot of their adapter: a slice if they lie side by side, otherwise
# their indices, int64. Tokens without an adapter are in no group.
Groups = tuple[tuple[int, slice | torch.Tensor], ...]


class GroupedAdapters(PunicaWrapperCPU):
    """vLLM's record of which token has which adapter, with the tokens also grouped by adapter.

    An engine has one. layers: the adapter weights of its layers, by layer number.
    """

    groups: Groups = ()
    layers: "tuple[_Weights, ...]" = ()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Notes which tokens of the next forward pass have which adapter."""
        super().update_metadata(*args, **kwargs)
        slots = self.token_lora_indices
        self.groups = tuple(
            (slot, _side_by_side((slots == slot).nonzero().flatten()))
            for slot in slots.unique().tolist()
            if slot >= 0
        )


class LayerAdapters:
    """What vLLM calls for one linear layer, in place of the record that all layers share.

    Compiled code gets only the layer's number. With the weights of every layer as inputs, each step
    would begin 0.7 ms later, even a step without adapters.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def add_lora_linear(
        self, y: torch.Tensor, x: torch.Tensor, *their_weights: Any, **kwargs: Any
    ) -> None:
        """Adds scale * x A^T B^T to y, in place (LoRA, arXiv 2106.09685, section 4.1).

        y: [n, sum of the widths]. x: [n, in]. B already includes the scale.
        """
        torch.ops.longrope.add_adapters(
            y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1]), self._number
        )


class _Weights(NamedTuple):
    """The adapter weights of a layer.

    a: [slots, 1, slices x rank, in]. b: [slots, 1, width, rank] for each slice.
    """

    a: torch.Tensor
    b: tuple[torch.Tensor, ...]


# One for each engine of the process. The key is the id of the dictionary of layers that the
# engine's forward passes carry.
_by_engine: weakref.WeakValueDictionary[int, GroupedAdapters] = weakref.WeakValueDictionary()


def number_layers(model: torch.nn.Module, vllm_config: Any) -> GroupedAdapters | None:
    """Numbers the linear layers with adapters in `model` and makes each apply its own by number.

    Returns the engine's record of which token has which adapter; None if no layer can have one.

    The A of all slices become parts of one tensor, so that a step's tokens are multiplied by all of
    them at once.
    """
    layers: list[_Weights] = []
    grouped = None
    for layer in model.modules():
        if not isinstance(layer, BaseLinearLayerWithLoRA):
            continue
        grouped = layer.punica_wrapper
        a = torch.cat(layer.lora_a_stacked, 2)
        layer.lora_a_stacked = a.chunk(len(layer.lora_a_stacked), 2)
        layer.punica_wrapper = LayerAdapters(len(layers))
        layers.append(_Weights(a, layer.lora_b_stacked))
    if grouped is not None:
        grouped.layers = tuple(layers)
        _by_engine[id(vllm_config.compilation_config.static_forward_context)] = grouped
    return grouped


def _add_adapters(y: torch.Tensor, x: torch.Tensor, layer: int) -> None:
    grouped = _by_engine[id(get_forward_context().no_compile_layers)]
    for slot, tokens in grouped.groups:
        weights, start = grouped.layers[layer], 0
        lows = (x[tokens] @ weights.a[slot, 0].T).chunk(len(weights.b), 1)
        for low, b in zip(lows, weights.b, strict=True):
            columns, up = y[:, start : start + b.shape[2]], b[slot, 0].T
            if isinstance(tokens, slice):
                columns[tokens].addmm_(low, up)
            else:
                columns.index_add_(0, tokens, low @ up)
            start += b.shape[2]


def _side_by_side(indices: torch.Tensor) -> slice | torch.Tensor:
    """A slice for ascending indices without a gap, otherwise the indices."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


_library = torch.library.Library("longrope", "FRAGMENT")
_library.define(
    "add_adapters" + torch.library.infer_schema(_add_adapters, mutates_args=("y",)),
)
_library.impl("add_adapters", _add_adapters, "CPU")
torch.library.register_fake("longrope::add_adapters", lambda *_: None, lib=_library)
