"""Keys and values of a text that is read once, with room for what is read after it."""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class _Layer(DynamicLayer):
    """Keys and values of one layer, in memory that is allocated at the beginning.

    transformers' own layer copies everything it has for every token that is added.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values, each [1, heads, n, d]; returns all of them so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = (
                states.new_empty(*states.shape[:2], self._room, states.shape[3])
                for states in (key_states, value_states)
            )
        assert self.keys is not None
        assert self.values is not None
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """The number of tokens in the layer."""
        return self.length


def of(layers: int, room: int) -> Cache:
    """An empty cache of `layers` layers, with room for `room` tokens."""
    return Cache(layers=[_Layer(room) for _ in range(layers)])


def cut(cache: Cache, length: int) -> None:
    """Forget all but the first `length` tokens."""
    for layer in cache.layers:
        assert isinstance(layer, _Layer)
        layer.length = length
