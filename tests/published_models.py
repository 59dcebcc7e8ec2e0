"""Configs of published models, as far as their rotation and their size go.

Facts, from the config.json of each model on huggingface.co, in the spelling that it has there.
"""

from typing import Any

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
"""What Qwen's README, model cards and documentation tell people to put into rope_scaling."""

_QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40960,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}
QWEN3_4B = {
    **_QWEN3,
    **{"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36},
    **{"max_window_layers": 36, "tie_word_embeddings": True},
}
QWEN3_8B = {
    **_QWEN3,
    **{"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
    "max_window_layers": 36,
}
QWEN3_32B = {
    **_QWEN3,
    **{"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64},
    **{"num_attention_heads": 64, "max_window_layers": 64},
}
_QWEN3_MOE: dict[str, Any] = {
    **_QWEN3,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_key_value_heads": 4,
}
QWEN3_30B_A3B = {
    **_QWEN3_MOE,
    **{"hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768},
    **{"num_hidden_layers": 48, "max_window_layers": 48},
}
QWEN3_235B_A22B = {
    **_QWEN3_MOE,
    **{"hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536},
    **{"num_hidden_layers": 94, "max_window_layers": 94, "num_attention_heads": 64},
}
QWEN3_4B_2507 = {**QWEN3_4B, "max_position_embeddings": 262144, "rope_theta": 5000000}
QWEN2_5_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
    **{"num_attention_heads": 28, "num_key_value_heads": 4},
    **{"max_position_embeddings": 32768, "max_window_layers": 28, "rope_theta": 1000000.0},
    **{"sliding_window": 131072, "use_sliding_window": False},
    **{"tie_word_embeddings": False, "vocab_size": 152064},
}
QWEN2_5_7B_1M = {
    **QWEN2_5_7B,
    "dual_chunk_attention_config": {
        "chunk_size": 262144,
        "local_size": 8192,
        "original_max_position_embeddings": 262144,
    },
    **{"max_position_embeddings": 1010000, "rope_scaling": None, "rope_theta": 10000000.0},
    "sliding_window": None,
}

_HYBRID = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
_QWEN3_5_TEXT: dict[str, Any] = {
    "model_type": "qwen3_5_text",
    "attention_bias": False,
    "attn_output_gate": True,
    "full_attention_interval": 4,
    "head_dim": 256,
    "num_key_value_heads": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_value_head_dim": 128,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [11, 11, 10],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
    "tie_word_embeddings": False,
    "vocab_size": 248320,
}
QWEN3_5_9B = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        **_QWEN3_5_TEXT,
        **{"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32},
        **{"num_attention_heads": 16, "linear_num_value_heads": 32, "layer_types": _HYBRID * 8},
    },
}
QWEN3_5_27B = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        **_QWEN3_5_TEXT,
        **{"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 64},
        **{"num_attention_heads": 24, "linear_num_value_heads": 48, "layer_types": _HYBRID * 16},
    },
}
QWEN3_5_35B_A3B = {
    "architectures": ["Qwen3_5MoeForConditionalGeneration"],
    "model_type": "qwen3_5_moe",
    "text_config": {
        **_QWEN3_5_TEXT,
        "model_type": "qwen3_5_moe_text",
        **{"hidden_size": 2048, "num_hidden_layers": 40, "num_key_value_heads": 2},
        **{"num_attention_heads": 16, "linear_num_value_heads": 32, "layer_types": _HYBRID * 10},
        **{"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512},
        "shared_expert_intermediate_size": 512,
    },
}

# The long list from pair 31 on; up to there it is a geometric row.
_PHI_4_TAIL = (
    *(32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97),
    *(33.28, 33.49, 33.5, 44.16, 47.77),
)
PHI_4_MINI = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    **{"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32},
    **{"num_attention_heads": 24, "num_key_value_heads": 8},
    **{"max_position_embeddings": 131072, "original_max_position_embeddings": 4096},
    "partial_rotary_factor": 0.75,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0] * 48,
        "long_factor": [*(1.118320672**pair for pair in range(31)), *_PHI_4_TAIL],
    },
    **{"rope_theta": 10000.0, "sliding_window": 262144},
    **{"tie_word_embeddings": True, "vocab_size": 200064},
}
_MINICPM3_FACTORS = [
    *(1.0591234137867171, 1.1241891283591912, 1.2596935748670968, 1.5380380402321725),
    *(2.093982484148734, 3.1446935121267696, 4.937952647693647, 7.524541999994549),
    *(10.475458000005451, 13.062047352306353, 14.85530648787323, 15.906017515851266),
    *(16.461961959767827, 16.740306425132907, 16.87581087164081, 16.940876586213285),
]
MINICPM3_4B = {
    "architectures": ["MiniCPM3ForCausalLM"],
    "model_type": "minicpm3",
    **{"hidden_size": 2560, "intermediate_size": 6400, "num_hidden_layers": 62},
    **{"num_attention_heads": 40, "num_key_value_heads": 40},
    **{"qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "q_lora_rank": 768, "kv_lora_rank": 256},
    "max_position_embeddings": 32768,
    "rope_scaling": {
        "type": "longrope",
        "long_factor": _MINICPM3_FACTORS,
        "short_factor": _MINICPM3_FACTORS,
        "original_max_position_embeddings": 32768,
    },
    "vocab_size": 73448,
}
