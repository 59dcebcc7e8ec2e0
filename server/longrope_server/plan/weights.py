"""How many parameters a model has, and how many bytes of them each GPU holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import length

from longrope_server.errors import UsageError
from longrope_server.plan.layouts import Layout, stages
from longrope_server.plan.model_shape import ModelShape

PLAIN_BYTES = 2  # bfloat16 or float16; vLLM's `--dtype auto` casts float32 down to it on a GPU


@dataclass(frozen=True)
class Precision:
    """Bytes of one weight of a linear layer; everything else takes PLAIN_BYTES.

    assumed: the same in words. rows, columns: the size of a group of weights that share a scale; a
    group is never split. fp8: whether the checkpoint is one in fp8.
    """

    linear_bytes: float
    assumed: str
    rows: int = 1
    columns: int = 1
    fp8: bool = False


@dataclass(frozen=True)
class Weights:
    """A model's parameters at a precision; with `tp`, a rank's share of them."""

    shape: ModelShape
    precision: Precision

    @property
    def parameters(self) -> int:
        """All parameters, tied ones counted once."""
        tables = 1 if self.shape.tied else 2
        layers = sum(self.linear(1, layer) + self.small(1, layer) for layer in self._layers)
        return layers + tables * self._table + self.shape.hidden

    @property
    def total_bytes(self) -> int:
        """Bytes of all parameters, as in a checkpoint."""
        linear = sum(self.linear(1, layer) for layer in self._layers)
        plain = (self.parameters - linear) * PLAIN_BYTES
        return plain + round(linear * self.precision.linear_bytes)

    @property
    def output_parameters(self) -> int:
        """Parameters of the projection to the vocabulary."""
        return self._table

    def splits(self, tp: int) -> bool:
        """Whether each of `tp` ranks gets whole groups of the weights that share a scale.

        See MarlinLinearKernel.can_implement
        (model_executor/kernels/linear/mixed_precision/marlin.py) and validate_fp8_block_shape
        (layers/quantization/utils/fp8_utils.py).
        """
        shape, precision = self.shape, self.precision
        queries = shape.heads // tp * shape.head_dim
        keys = max(1, shape.kv_heads // tp) * shape.head_dim
        widths = [shape.intermediate, *(shape.experts.widths if shape.experts else ())]
        mlps = [width // tp for width in widths if width]
        return tp == 1 or (
            all(part % precision.rows == 0 for part in (queries, *mlps))
            and all(part % precision.columns == 0 for part in (queries, keys, *mlps))
        )

    def linear(self, tp: int, layer: int = 0) -> int:
        """Parameters of a layer's linear weights on one of `tp` ranks."""
        shape = self.shape
        if shape.experts and shape.is_sparse(layer):
            return self._attention(tp, layer) + shape.experts.linear(shape.hidden, tp)
        return self._attention(tp, layer) + 3 * shape.hidden * shape.intermediate // tp

    def active(self, tp: int, layer: int = 0) -> int:
        """The same without the experts that a token does not pass."""
        shape = self.shape
        if shape.experts and shape.is_sparse(layer):
            return self._attention(tp, layer) + shape.experts.active(shape.hidden, tp)
        return self.linear(tp, layer)

    def small(self, tp: int, layer: int = 0) -> int:
        """Parameters of a layer's norms, biases, routers and convolutions on one of `tp` ranks."""
        shape = self.shape
        count = 2 * shape.hidden
        if shape.experts and shape.is_sparse(layer):
            count += shape.experts.small(shape.hidden)
        if shape.linear and shape.is_linear(layer):
            return count + shape.linear.small(tp)
        into = (shape.heads // tp + 2 * max(1, shape.kv_heads // tp)) * shape.head_dim
        return (
            count
            + shape.head_norms * 2 * shape.head_dim
            + shape.qkv_bias * into
            + shape.output_bias * shape.hidden
            + shape.mlp_bias * (2 * shape.intermediate // tp + shape.hidden)
        )

    def _attention(self, tp: int, layer: int) -> int:
        shape = self.shape
        if shape.linear and shape.is_linear(layer):
            return shape.linear.linear(shape.hidden, tp)
        queries = (2 + shape.query_gate) * shape.heads // tp
        return shape.hidden * shape.head_dim * (queries + 2 * max(1, shape.kv_heads // tp))

    def stage_bytes(self, layout: Layout) -> list[int]:
        """Bytes that one GPU of each pipeline stage holds: embeddings first, output last."""
        of_layers = [self._layer_bytes(layout.tp, layer) for layer in self._layers]
        split = stages(self.shape.layers, layout.pp)
        sizes = [sum(of_layers[layer] for layer in stage) for stage in split]
        table = self._table_bytes(layout.tp)
        sizes[0] += table
        sizes[-1] += 0 if self.shape.tied and layout.pp == 1 else table
        return sizes

    def read_bytes(self, tp: int) -> int:
        """Bytes of weights read for a token by one GPU of each stage: all but the embeddings.

        Of experts, those that the token passes.
        """
        layers = sum(
            round(self.active(tp, layer) * self.precision.linear_bytes)
            + self.small(tp, layer) * PLAIN_BYTES
            for layer in self._layers
        )
        return layers + self._table_bytes(tp)

    @property
    def _layers(self) -> range:
        return range(self.shape.layers)

    def _layer_bytes(self, tp: int, layer: int) -> int:
        linear = round(self.linear(tp, layer) * self.precision.linear_bytes)
        return linear + self.small(tp, layer) * PLAIN_BYTES

    @property
    def _table(self) -> int:
        return self.shape.vocabulary * self.shape.hidden

    def _table_bytes(self, tp: int) -> int:
        return self.shape.padded_vocabulary // tp * self.shape.hidden * PLAIN_BYTES


def precision_of(config: Mapping[str, Any]) -> Precision:
    """The precision that a config's quantization_config gives the weights.

    Raises UsageError for a method that is not known here, and FactorFileError naming a field that
    is unusable.
    """
    quantization = _quantization(config)
    if not quantization:
        return Precision(PLAIN_BYTES, "2 bytes a parameter (bfloat16 or float16)")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    rest = "embeddings, output and norms 2 bytes"
    if method == "fp8" and isinstance(quantization, dict):
        rows, columns = _block(quantization.get("weight_block_size"))
        return Precision(1, f"fp8: linear weights 1 byte, {rest}", rows, columns, fp8=True)
    if method in ("awq", "gptq") and isinstance(quantization, dict):
        # The second name of each field is AutoAWQ's own.
        bits = quantization.get("bits", quantization.get("w_bit"))
        bits = length(bits, "quantization_config.bits")
        group = quantization.get("group_size", quantization.get("q_group_size"))
        if group == -1:  # a whole column
            words, of_group, group = "a group for each column", 0.0, 1
        else:
            group = length(group, "quantization_config.group_size")
            # A 16-bit scale and a zero point for each group.
            words, of_group = f"groups of {group}", (16 + bits) / group
        assumed = f"{method}: linear weights {bits} bits in {words}, {rest}"
        return Precision((bits + of_group) / 8, assumed, rows=group)
    raise UsageError(
        f"The model is quantized by {shown(method)}, whose size is not known here: known are fp8, "
        "awq and gptq."
    )


def _quantization(config: Mapping[str, Any]) -> Any:
    """What a config says of its quantization, wherever vLLM looks for it.

    See get_quantization_config (transformers_utils/model_arch_config_convertor.py).
    """
    nested = config.get("text_config")
    places = (config, nested) if isinstance(nested, Mapping) else (config,)
    fields = ("quantization_config", "compression_config")
    said = (place.get(field) for place in places for field in fields)
    return next((value for value in said if value is not None), None)


def _block(sizes: Any) -> tuple[int, int]:
    """Rows (of the input) and columns (of the output) of a block of `weight_block_size`."""
    if sizes is None:
        return 1, 1
    if not isinstance(sizes, list) or len(sizes) != 2:
        raise UsageError(
            f"The model's config has quantization_config.weight_block_size {shown(sizes)}; it "
            "should be a list of two whole numbers."
        )
    columns, rows = (length(size, "quantization_config.weight_block_size") for size in sizes)
    return rows, columns
