"""LoRA on a CPU: one product for all tokens with one adapter, in compiled code too.

vLLM's own gathers the adapter's weights anew for each token, gives tokens without an adapter the
last slot's where every slot is taken (vllm #48421), and cannot be compiled. Here those tokens are
not touched, and compiled code sees a layer's adapters as one operator, which knows only when it
runs whose tokens they are.
"""

import weakref
from typing import Any, NamedTuple

import torch

from longrope_plugin.compat.names import (
    BaseLinearLayerWithLoRA,
    PunicaWrapperCPU,
    get_forward_context,
)

# A step's tokens by the slot of their adapter: a slice where they lie side by side, else their
# indices, int64. Tokens without an adapter are in no group.
Groups = tuple[tuple[int, slice | torch.Tensor], ...]


class GroupedAdapters(PunicaWrapperCPU):
    """vLLM's keeper of which token has which adapter, which also notes it by adapter.

    An engine has one. `layers` are the weights of its layers, by their numbers.
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
    """What vLLM calls for one linear layer, in place of the keeper that all layers share.

    Compiled code is handed the layer's number alone: with the weights of every layer as inputs a
    step begins 0.7 ms later, with an adapter in it or not.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def add_lora_linear(
        self, y: torch.Tensor, x: torch.Tensor, *their_weights: Any, **kwargs: Any
    ) -> None:
        """Adds scale * x A^T B^T to y, in place (LoRA, arXiv 2106.09685, section 4.1).

        y: [n, sum of the widths]. x: [n, in]. B holds the scale already.
        """
        torch.ops.longrope.add_adapters(
            y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1]), self._number
        )


class _Weights(NamedTuple):
    """A layer's weights: A [slots, 1, slices x rank, in], and B [slots, 1, width, rank] a slice."""

    a: torch.Tensor
    b: tuple[torch.Tensor, ...]


# By the identity of what a forward pass knows its engine by: a process may have several engines.
_keepers: weakref.WeakValueDictionary[int, GroupedAdapters] = weakref.WeakValueDictionary()


def number_layers(model: torch.nn.Module, vllm_config: Any) -> None:
    """Has each linear layer with adapters in `model` apply them by its number.

    The slices' A become parts of one tensor: a step's tokens are multiplied by all at once.
    """
    layers: list[_Weights] = []
    keeper = None
    for layer in model.modules():
        if not isinstance(layer, BaseLinearLayerWithLoRA):
            continue
        keeper = layer.punica_wrapper
        a = torch.cat(layer.lora_a_stacked, 2)
        layer.lora_a_stacked = a.chunk(len(layer.lora_a_stacked), 2)
        layer.punica_wrapper = LayerAdapters(len(layers))
        layers.append(_Weights(a, layer.lora_b_stacked))
    if keeper is not None:
        keeper.layers = tuple(layers)
        _keepers[id(vllm_config.compilation_config.static_forward_context)] = keeper


def _add_adapters(y: torch.Tensor, x: torch.Tensor, layer: int) -> None:
    keeper = _keepers[id(get_forward_context().no_compile_layers)]
    for slot, tokens in keeper.groups:
        weights, start = keeper.layers[layer], 0
        lows = (x[tokens] @ weights.a[slot, 0].T).chunk(len(weights.b), 1)
        for low, b in zip(lows, weights.b, strict=True):
            columns, up = y[:, start : start + b.shape[2]], b[slot, 0].T
            if isinstance(tokens, slice):
                columns[tokens].addmm_(low, up)
            else:
                columns.index_add_(0, tokens, low @ up)
            start += b.shape[2]


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
