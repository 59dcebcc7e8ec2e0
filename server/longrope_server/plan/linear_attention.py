"""Layers of linear attention (Gated DeltaNet in Qwen3.5): a state that does not grow.

arXiv 2412.06464; Qwen3_5GatedDeltaNet in transformers' modeling_qwen3_5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import length

from longrope_server.errors import UsageError

KIND = "linear_attention"
CONV_BYTES = 2  # of one number of the convolution's state: the model's own type
# Of one number of the recurrent state, by the config's mamba_ssm_dtype, which vLLM takes for it
# (Qwen3_5ForConditionalGenerationConfig, model_executor/models/config.py).
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# State blocks of a request. With prefix caching, which is vLLM's default, there is one more for the
# state that is being made (MambaSpec.max_memory_usage_bytes, v1/kv_cache_interface.py).
BLOCKS = 2


@dataclass(frozen=True)
class LinearAttention:
    """The heads of linear attention, the dimensions of each, and the layers that have it.

    kernel: tokens that the convolution before it sees. number_bytes: of one number of the recurrent
    state.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    number_bytes: int
    layers: tuple[bool, ...]

    @property
    def keys(self) -> int:
        """Numbers of all keys of a token."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Numbers of all values of a token."""
        return self.value_heads * self.value_dim

    def linear(self, hidden: int, tp: int) -> int:
        """Weights of a layer's projections into it (q, k, v, z, a, b) and out of it."""
        into = 2 * self.keys + 2 * self.values + 2 * self.value_heads
        return hidden * (into + self.values) // tp

    def small(self, tp: int) -> int:
        """Weights of the convolution, the decay, the time step and the norm."""
        convolution = (2 * self.keys + self.values) * self.kernel
        return (convolution + 2 * self.value_heads) // tp + self.value_dim

    def state_bytes(self, tp: int = 1) -> int:
        """Bytes of one request's state in one layer on one of `tp` ranks.

        See gated_delta_net_state_shape (model_executor/layers/mamba/mamba_utils.py).
        """
        convolution = (2 * self.keys + self.values) // tp * (self.kernel - 1) * CONV_BYTES
        recurrent = self.value_heads // tp * self.key_dim * self.value_dim * self.number_bytes
        return convolution + recurrent

    def flops(self, tokens: int) -> int:
        """Operations of a prompt in one layer: each token reads, corrects and asks the state."""
        return 6 * tokens * self.value_heads * self.key_dim * self.value_dim


def from_config(values: Mapping[str, Any], layers: int) -> LinearAttention | None:
    """The linear attention of a Qwen3.5's config; None if none of its `layers` has it.

    Without layer_types, every full_attention_interval-th layer has full attention and the others
    this (Qwen3_5TextConfig in transformers). Raises FactorFileError naming a field that is missing
    or unusable, and UsageError for an unknown type of its state.
    """
    interval = length(values.get("full_attention_interval", 4), "full_attention_interval")
    kinds = values.get("layer_types") or [
        KIND if (layer + 1) % interval else "full_attention" for layer in range(layers)
    ]
    has_it = tuple(kind == KIND for kind in kinds[:layers])
    if not any(has_it):
        return None
    dtype = values.get("mamba_ssm_dtype", "bfloat16")
    if not isinstance(dtype, str) or dtype not in STATE_BYTES:
        raise UsageError(
            f"The model's config has mamba_ssm_dtype {shown(dtype)}; known are "
            f"{', '.join(STATE_BYTES)}."
        )

    def field(name: str) -> int:
        return length(values.get(name), name)

    return LinearAttention(
        key_heads=field("linear_num_key_heads"),
        value_heads=field("linear_num_value_heads"),
        key_dim=field("linear_key_head_dim"),
        value_dim=field("linear_value_head_dim"),
        kernel=field("linear_conv_kernel_dim"),
        number_bytes=STATE_BYTES[dtype],
        layers=has_it,
    )
