"""The numbers of a model's config.json that decide what it weighs, caches and computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longrope_factors.factor_file.architectures import completed
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import length

from longrope_server.errors import UsageError
from longrope_server.plan import experts, linear_attention
from longrope_server.plan.experts import Experts
from longrope_server.plan.linear_attention import LinearAttention

ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
    "Qwen3_5ForCausalLM",
    "Qwen3_5MoeForCausalLM",
    "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
    "Phi3ForCausalLM",
    "MiniCPMForCausalLM",
)
VOCABULARY_PADDING = 64
MOST_LAYERS = 1000  # far above any model; every layer and every split of them is looked at
_WITH_HEAD_NORMS = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
_QWEN = ("Qwen2ForCausalLM", *_WITH_HEAD_NORMS)


@dataclass(frozen=True)
class ModelShape:
    """A decoder's dimensions: those of the whole model before any split.

    intermediate: of the MLP, 0 if every layer has experts. query_gate: whether the projection of
    queries also makes a gate of the attention's output. windows: for each layer, how many tokens
    back its attention reaches; None for all. experts, linear: None for a model without them.
    sees: whether the model has a vision tower, which is not counted.
    """

    architecture: str
    vocabulary: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_norms: bool
    windows: tuple[int | None, ...]
    query_gate: bool = False
    experts: Experts | None = None
    linear: LinearAttention | None = None
    sees: bool = False

    @property
    def layers(self) -> int:
        """How many decoder layers there are."""
        return len(self.windows)

    def is_sparse(self, layer: int) -> bool:
        """Whether the layer has experts in place of an MLP."""
        return self.experts is not None and self.experts.sparse[layer]

    def is_linear(self, layer: int) -> bool:
        """Whether the layer has linear attention: it caches a state, and no keys and values."""
        return self.linear is not None and self.linear.layers[layer]

    @property
    def attention_layers(self) -> list[int]:
        """The layers that cache keys and values."""
        return [layer for layer in range(self.layers) if not self.is_linear(layer)]

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of MLPs, and heads of linear attention: what tensor parallelism divides."""
        linear = (self.linear.key_heads, self.linear.value_heads) if self.linear else ()
        dense = (self.intermediate,) if self.intermediate else ()
        return (*dense, *(self.experts.widths if self.experts else ()), *linear)

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the embedding table in vLLM (layers/vocab_parallel_embedding.py)."""
        return -(-self.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING


def from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a parsed config.json; missing fields get transformers' defaults.

    Raises UsageError for an architecture whose weights cannot be counted here, and FactorFileError
    naming a field that is missing or unusable.
    """
    architecture = _architecture(config)
    nested = config.get("text_config")
    values = completed(nested if isinstance(nested, Mapping) else config)
    heads = length(values.get("num_attention_heads"), "num_attention_heads")
    hidden = length(values.get("hidden_size"), "hidden_size")
    kv_heads = _or(values.get("num_key_value_heads"), heads, "num_key_value_heads")
    if heads % kv_heads:
        raise UsageError(
            f"The model's config has {heads} attention heads and {kv_heads} KV heads; the first "
            "should be a multiple of the second."
        )
    llama, qwen3 = architecture == "LlamaForCausalLM", architecture in _WITH_HEAD_NORMS
    qwen3_5 = architecture.startswith("Qwen3_5")
    # Only these architectures have the field in transformers. With it, vLLM's Llama gives the
    # projections into and out of attention a bias, its Qwen3 only those into it.
    attention_bias = bool(values.get("attention_bias")) and (llama or qwen3)
    windows = _windows(architecture, values)
    sparse = experts.from_config(values, len(windows)) if _has_experts(architecture) else None
    dense = sparse is None or not all(sparse.sparse)
    return ModelShape(
        architecture=architecture,
        vocabulary=length(values.get("vocab_size"), "vocab_size"),
        hidden=hidden,
        intermediate=length(values.get("intermediate_size"), "intermediate_size") if dense else 0,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_or(values.get("head_dim"), hidden // heads, "head_dim"),
        # transformers takes the field from the whole config, not from its text_config.
        tied=bool(config.get("tie_word_embeddings", values.get("tie_word_embeddings"))),
        qkv_bias=architecture == "Qwen2ForCausalLM" or attention_bias,
        output_bias=attention_bias and llama,
        mlp_bias=bool(values.get("mlp_bias")) and llama,
        head_norms=qwen3 or qwen3_5,
        windows=windows,
        query_gate=qwen3_5,
        experts=sparse,
        linear=linear_attention.from_config(values, len(windows)) if qwen3_5 else None,
        sees=bool(config.get("vision_config")),
    )


def is_read_by_its_own_code(config: Mapping[str, Any]) -> bool:
    """Whether transformers reads the config with Python code beside it, which has to be allowed.

    Of the architectures here, this is only MiniCPM's. For the others transformers has a class of
    its own and uses that.
    """
    return config.get("model_type") == "minicpm" and bool(config.get("auto_map"))


def _or(value: Any, otherwise: int, field: str) -> int:
    return length(otherwise if value is None else value, field)


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise UsageError(
            f"The model's architecture is {shown(architecture)}, whose size is not known here: "
            f"known are {', '.join(ARCHITECTURES)}."
        )
    if config.get("num_experts") and not _has_experts(architecture):
        raise UsageError(
            f"The model is a mixture of experts, which {architecture} is not known to be here."
        )
    return architecture


def _has_experts(architecture: str) -> bool:
    return "Moe" in architecture


def _windows(architecture: str, values: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The window of each layer, as in vLLM: layer_types say which have it; without them all do.

    See EngineArgs.create_engine_config (engine/arg_utils.py), LlamaAttention (models/llama.py) and,
    for Qwen, the layer_types that transformers derives (Qwen2Config.__post_init__).
    """
    layers = length(values.get("num_hidden_layers"), "num_hidden_layers")
    if layers > MOST_LAYERS:
        raise UsageError(
            f"The model's config has num_hidden_layers {layers}; it should be {MOST_LAYERS:,} at "
            "most."
        )
    window = length(values.get("sliding_window") or 0, "sliding_window", least=0) or None
    kinds = values.get("layer_types")
    if kinds is not None and not _names_kinds(kinds, layers):
        raise UsageError(
            f"The model's config has layer_types {shown(kinds)}; it should be a list with one name "
            f"for each of {layers} layers."
        )
    if architecture in _QWEN:
        window = window if values.get("use_sliding_window") else None
        full = length(values.get("max_window_layers", 28), "max_window_layers", least=0)
        if window and not kinds:
            kinds = ["full_attention"] * full + ["sliding_attention"] * max(0, layers - full)
            kinds = kinds[:layers]
        if kinds and len(set(kinds)) > 1 and full != layers:
            # Qwen2Model (models/qwen2.py) asserts this, and Qwen3's model derives from it.
            raise UsageError(
                f"The model's config has a sliding window in some layers only and "
                f"max_window_layers {full}; vLLM refuses such a model unless that is {layers}, the "
                "number of layers."
            )
    if not kinds:
        return (window,) * layers
    return tuple(window if kind == "sliding_attention" else None for kind in kinds[:layers])


def _names_kinds(kinds: Any, layers: int) -> bool:
    """Whether `kinds` is a list with the name of a kind for each layer."""
    return (
        isinstance(kinds, list)
        and len(kinds) >= layers
        and all(isinstance(kind, str) for kind in kinds)
    )
