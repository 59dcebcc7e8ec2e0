"""How many parameters a model has, and how many bytes of them each GPU holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longrope_server.errors import UsageError
from longrope_server.plan.layouts import Layout, stages
from longrope_server.plan.model_shape import ModelShape

PLAIN_BYTES = 2  # bfloat16 or float16; vLLM's `--dtype auto` casts float32 down to it on a GPU


@dataclass(frozen=True)
class Precision:
    """Bytes of one weight of a linear layer, and that in words; all else takes PLAIN_BYTES."""

    linear_bytes: float
    assumed: str


@dataclass(frozen=True)
class Weights:
    """A model's parameters at a precision; a rank's share under tensor parallelism `tp`."""

    shape: ModelShape
    precision: Precision

    @property
    def parameters(self) -> int:
        """All parameters, tied ones counted once."""
        tables = 1 if self.shape.tied else 2
        layer = self.linear(1) + self.small(1)
        return self.shape.layers * layer + tables * self._table + self.shape.hidden

    @property
    def total_bytes(self) -> int:
        """Bytes of all parameters, as they lie in a checkpoint."""
        linear = self.shape.layers * self.linear(1)
        plain = (self.parameters - linear) * PLAIN_BYTES
        return plain + round(linear * self.precision.linear_bytes)

    @property
    def output_parameters(self) -> int:
        """Parameters of the projection to the vocabulary."""
        return self._table

    def linear(self, tp: int) -> int:
        """Parameters of one layer's linear weights on one of `tp` ranks."""
        shape = self.shape
        attention = 2 * shape.heads // tp + 2 * max(1, shape.kv_heads // tp)
        return shape.hidden * (attention * shape.head_dim + 3 * shape.intermediate // tp)

    def small(self, tp: int) -> int:
        """Parameters of one layer's norms and biases on one of `tp` ranks."""
        shape = self.shape
        into = (shape.heads // tp + 2 * max(1, shape.kv_heads // tp)) * shape.head_dim
        return (
            2 * shape.hidden
            + shape.head_norms * 2 * shape.head_dim
            + shape.qkv_bias * into
            + shape.output_bias * shape.hidden
            + shape.mlp_bias * (2 * shape.intermediate // tp + shape.hidden)
        )

    def stage_bytes(self, layout: Layout) -> list[int]:
        """Bytes that one GPU of each pipeline stage holds: embeddings first, output last."""
        sizes = [count * self._layer_bytes(layout.tp) for count in self._counts(layout.pp)]
        table = self._table_bytes(layout.tp)
        sizes[0] += table
        sizes[-1] += 0 if self.shape.tied and layout.pp == 1 else table
        return sizes

    def read_bytes(self, tp: int) -> int:
        """Bytes that the GPUs one token passes through read for it: all but the embeddings."""
        return self.shape.layers * self._layer_bytes(tp) + self._table_bytes(tp)

    def _counts(self, pp: int) -> list[int]:
        return [len(stage) for stage in stages(self.shape.layers, pp)]

    def _layer_bytes(self, tp: int) -> int:
        return round(self.linear(tp) * self.precision.linear_bytes) + self.small(tp) * PLAIN_BYTES

    @property
    def _table(self) -> int:
        return self.shape.vocabulary * self.shape.hidden

    def _table_bytes(self, tp: int) -> int:
        return self.shape.padded_vocabulary // tp * self.shape.hidden * PLAIN_BYTES


def precision_of(config: Mapping[str, Any]) -> Precision:
    """What a config's quantization_config makes of a weight; UsageError for one not known here."""
    quantization = config.get("quantization_config")
    if not quantization:
        return Precision(PLAIN_BYTES, "2 bytes a parameter (bfloat16 or float16)")
    method = quantization.get("quant_method")
    rest = "embeddings, output and norms 2 bytes"
    if method == "fp8":
        return Precision(1, f"fp8: linear weights 1 byte, {rest}")
    if method in ("awq", "gptq"):
        bits, group = quantization.get("bits", 4), quantization.get("group_size", 128)
        # A 16-bit scale and a zero point for each group; a group of -1 is a whole column.
        bits_of_one = bits + ((16 + bits) / group if group > 0 else 0)
        return Precision(
            bits_of_one / 8, f"{method}: linear weights {bits} bits in groups of {group}, {rest}"
        )
    raise UsageError(
        f"The model is quantized by {method!r}, whose size is not known here: known are fp8, awq "
        "and gptq."
    )
