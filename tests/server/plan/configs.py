"""The configs of known models, as far as their size goes, and plans for tests."""

from typing import Any

from longrope_server.plan import kv_cache, model_shape, weights
from longrope_server.plan.adapters import Adapters
from longrope_server.plan.fitting import Fitting
from longrope_server.plan.kv_cache import KvCache
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import Weights

LLAMA2_7B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}
MISTRAL_7B = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "sliding_window": None,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}
PHI_3_MINI_128K = {
    "architectures": ["Phi3ForCausalLM"],
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "sliding_window": 262144,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0] * 48,
        "long_factor": [1.0 + pair for pair in range(48)],
    },
}
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
}
# Few KV heads: tensor parallelism soon replicates them.
MINICPM4_8B = {
    "architectures": ["MiniCPMForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "vocab_size": 73448,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
    "rope_theta": 10000.0,
}
QWEN2_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "use_sliding_window": False,
    "sliding_window": 131072,
    "max_window_layers": 28,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
}
QWEN3_0_6B = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
    "rope_theta": 1000000.0,
}
ALL: dict[str, dict[str, Any]] = {
    "LLaMA2-7B": LLAMA2_7B,
    "Mistral-7B": MISTRAL_7B,
    "Phi-3-mini-128k": PHI_3_MINI_128K,
    "SmolLM2-135M": SMOLLM2,
    "MiniCPM4-8B": MINICPM4_8B,
    "Qwen2-7B": QWEN2_7B,
    "Qwen3-0.6B": QWEN3_0_6B,
}


def shape(config: dict[str, Any], **changes: Any) -> ModelShape:
    return model_shape.from_config({**config, **changes})


def weights_of(config: dict[str, Any], **changes: Any) -> Weights:
    changed = {**config, **changes}
    return Weights(model_shape.from_config(changed), weights.precision_of(changed))


def cache_of(config: dict[str, Any], dtype: str = "auto", **changes: Any) -> KvCache:
    return KvCache(shape(config, **changes), kv_cache.element_bytes(dtype))


def fitting_of(
    config: dict[str, Any], dtype: str = "auto", memory_share: float = 0.9, **changes: Any
) -> Fitting:
    weights, cache = weights_of(config, **changes), cache_of(config, dtype, **changes)
    return Fitting(weights, cache, memory_share, Adapters(weights.shape, slots=0, rank=1))
