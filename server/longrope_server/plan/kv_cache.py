"""Bytes of the KV cache, counted as vLLM allocates them: in blocks, for groups of layers."""

import bisect
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from longrope_server.errors import UsageError
from longrope_server.plan import linear_attention
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import Precision

BLOCK_SIZE = 16  # tokens; CacheConfig.DEFAULT_BLOCK_SIZE, which vLLM uses on a GPU
LONGEST = 2**31 - 1  # the greatest length in a factor file, in tokens
# Bytes of one element by the name of --kv-dtype; "auto" is the model's own type.
ELEMENT_BYTES = {
    **{"auto": 2, "bf16": 2, "bfloat16": 2, "float16": 2},
    **{"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1},
}


def element_bytes(dtype: str) -> int:
    """Bytes of one element of a cache of `dtype`. Raises UsageError for an unknown dtype."""
    if dtype not in ELEMENT_BYTES:
        raise UsageError(
            f"--kv-dtype is {dtype!r}; it should be one of {', '.join(ELEMENT_BYTES)}."
        )
    return ELEMENT_BYTES[dtype]


def check(dtype: str, precision: Precision) -> None:
    """Raises UsageError if vLLM refuses a cache of `dtype` for weights of this precision.

    It takes the scales of an fp8 cache from an fp8 checkpoint, which are those of e4m3
    (_init_kv_cache_quant, model_executor/layers/attention/attention.py).
    """
    if dtype == "fp8_e5m2" and precision.fp8:
        raise UsageError(
            "--kv-dtype is 'fp8_e5m2', which vLLM refuses for a model whose weights are fp8: it "
            "should be auto or fp8."
        )


@dataclass(frozen=True)
class KvCache:
    """The cache of a model. element_bytes: of one element. block_size: the tokens of one block, or
    what they are a multiple of where layers of linear attention share the blocks.
    """

    shape: ModelShape
    element_bytes: int
    block_size: int = BLOCK_SIZE

    def layer_token_bytes(self, tp: int = 1) -> int:
        """Bytes of one token in one layer on one of `tp` ranks, each of which has a KV head.

        See AttentionSpec.page_size_bytes (v1/kv_cache_interface.py), ModelConfig.get_num_kv_heads.
        """
        kv_heads = max(1, self.shape.kv_heads // tp)
        return 2 * kv_heads * self.shape.head_dim * self.element_bytes

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token in all layers that cache it, on all GPUs, without copies."""
        return len(self.shape.attention_layers) * self.layer_token_bytes()

    def tokens_of_a_block(self, tp: int = 1) -> int:
        """Tokens of one block: as many as make it as large as a state of linear attention.

        See _align_hybrid_block_size (platforms/interface.py).
        """
        if self.shape.linear is None:
            return self.block_size
        aligned = self.block_size * self.layer_token_bytes(tp)
        return self.block_size * _ceil(self.shape.linear.state_bytes(tp), aligned)

    def block_bytes(self, tp: int = 1, stage: range | None = None) -> int:
        """Bytes of one block on one of `tp` ranks of a pipeline stage (all layers without one).

        A block belongs to one group and has room for the largest group's layers of that stage
        (_get_kv_cache_bytes_per_block, v1/core/kv_cache_utils.py).
        """
        layers = range(self.shape.layers) if stage is None else stage
        most = max(sum(layer in layers for layer in group) for group in self._groups)
        return most * self.tokens_of_a_block(tp) * self.layer_token_bytes(tp)

    def blocks(self, tokens: int, in_flight: int, dcp: int = 1, tp: int = 1) -> int:
        """Blocks of one request of `tokens` tokens, while `in_flight` tokens are being computed.

        See FullAttentionSpec.max_memory_usage_bytes and, for a window, which frees the blocks that
        it has passed, SlidingWindowSpec.max_admission_blocks_per_request
        (v1/kv_cache_interface.py).
        """
        size = self.tokens_of_a_block(tp)
        return sum(
            linear_attention.BLOCKS
            if self.shape.is_linear(group[0])
            else self._blocks(self.shape.windows[group[0]], tokens, in_flight, dcp, size)
            for group in self._groups
        )

    def longest(self, blocks: int, in_flight: int, dcp: int = 1, tp: int = 1) -> int:
        """Tokens of the longest request that `blocks` blocks hold, up to LONGEST; 0 if none."""
        return bisect.bisect_right(
            range(1, LONGEST + 1),
            blocks,
            key=lambda tokens: self.blocks(tokens, in_flight, dcp, tp),
        )

    def request_bytes(self, tokens: int, in_flight: int) -> int:
        """Bytes of one request's blocks on all GPUs, without copies."""
        return self.blocks(tokens, in_flight) * self.block_bytes()

    def read_bytes(self, tokens: int, tp: int, dcp: int) -> int:
        """Bytes of cache read for a token after `tokens` others, by one GPU of each stage."""
        windows = [self.shape.windows[layer] for layer in self.shape.attention_layers]
        seen = sum(min(tokens, window or tokens) for window in windows)
        linear = self.shape.linear
        states = sum(linear.layers) * linear.state_bytes(tp) if linear else 0
        return seen * self.layer_token_bytes(tp) // dcp + states

    def _blocks(self, window: int | None, tokens: int, in_flight: int, dcp: int, size: int) -> int:
        if window is None:
            return _ceil(_ceil(tokens, dcp), size)
        return _ceil(min(window - 1 + in_flight, tokens), size) + 1

    @cached_property
    def _groups(self) -> list[list[int]]:
        """The layers that share blocks: layers that cache alike, in groups of one size.

        See _get_kv_cache_groups_uniform_page_size (v1/core/kv_cache_utils.py).
        """
        alike: dict[tuple[bool, int | None], list[int]] = defaultdict(list)
        for layer, window in enumerate(self.shape.windows):
            alike[self.shape.is_linear(layer), window].append(layer)
        sizes = [len(layers) for layers in alike.values()]
        size = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
        counts = [_ceil(layer_count, size) for layer_count in sizes]
        return [
            layers[start::count]
            for layers, count in zip(alike.values(), counts, strict=True)
            for start in range(count)
        ]


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
