"""Configs of published models, as far as their rotation and their size go.

Facts, from the config.json of each model on huggingface.co, in the spelling that it has there.
"""

import json
from pathlib import Path
from typing import Any

_PHI_3_MINI = json.loads(
    (Path(__file__).parent / "published" / "phi3_mini_128k_2024-07.json").read_text()
)

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

PHI_3_MINI = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    **{"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32},
    **{"num_attention_heads": 32, "num_key_value_heads": 32},
    **{"max_position_embeddings": 131072, "original_max_position_embeddings": 4096},
    "rope_scaling": {
        "type": "longrope",
        **{name: _PHI_3_MINI[name] for name in ("short_factor", "long_factor")},
    },
    **{"rope_theta": 10000.0, "sliding_window": 262144},
    **{"tie_word_embeddings": False, "vocab_size": 32064},
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
# As published as far as the numbers go; the last is repeated to the 64 of its head dimension.
_PHI_3_5_MOE_LONG = (
    *(1.02, 1.03, 1.04, 1.05, 1.05, 1.05, 1.06, 1.06, 1.06, 1.06, 1.06, 1.06, 1.1, 1.18, 1.18),
    *(1.37, 1.49, 2.11, 2.89, 3.95, 4.3, 6.43, 8.09, 10.69, 12.05, 18.23, 18.84, 19.9, 21.42),
    *(26.2, 34.28, 34.59, 38.73, 40.22, 42.54, 44.0),
)
PHI_3_5_MOE = {
    "architectures": ["PhiMoEForCausalLM"],
    "model_type": "phimoe",
    **{"attention_bias": True, "lm_head_bias": True},
    **{"hidden_size": 4096, "intermediate_size": 6400, "num_hidden_layers": 32},
    **{"num_attention_heads": 32, "num_key_value_heads": 8},
    **{"num_experts_per_tok": 2, "num_local_experts": 16},
    **{"max_position_embeddings": 131072, "original_max_position_embeddings": 4096},
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.04, 1.04, 1.04, *[1.05] * 60],
        "long_factor": [*_PHI_3_5_MOE_LONG, *[44.0] * (64 - len(_PHI_3_5_MOE_LONG))],
        "short_mscale": 1.243163121016122,
        "long_mscale": 1.243163121016122,
        "original_max_position_embeddings": 4096,
    },
    **{"rope_theta": 10000.0, "sliding_window": 131072},
    **{"tie_word_embeddings": False, "vocab_size": 32064},
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

# As published as far as the numbers go; the last is repeated to the 64 of its head dimension.
_MINICPM4_FACTORS = (
    *(0.9977997200264581, 1.014658295992452, 1.0349680404997148, 1.059429246056193),
    *(1.0888815016813513, 1.1243301355211495, 1.166977103606075, 1.2182568066927284),
    *(1.2798772354275727, 1.3538666751582975, 1.4426259039919596, 1.5489853358570191),
    *(1.6762658237220625, 1.8283407612492941, 2.0096956085876183, 2.225478927469756),
    *(2.481536379650452, 2.784415934557119, 3.1413289096347365, 3.560047844772632),
    *(4.048719380066383, 4.615569542115128, 5.2684819496549835, 6.014438591970396),
    *(6.858830049237097, 7.804668263503327, 8.851768731513417, 9.99600492938444),
    *(11.228766118181639, 12.536757560834843),
)
MINICPM4_8B = {
    "architectures": ["MiniCPMForCausalLM"],
    "model_type": "minicpm",
    **{"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32},
    **{"num_attention_heads": 32, "num_key_value_heads": 2},
    "max_position_embeddings": 32768,
    "rope_scaling": {
        "rope_type": "longrope",
        "long_factor": [*_MINICPM4_FACTORS, *[_MINICPM4_FACTORS[-1]] * 34],
        "short_factor": [*_MINICPM4_FACTORS, *[_MINICPM4_FACTORS[-1]] * 34],
        "original_max_position_embeddings": 32768,
    },
    "tie_word_embeddings": False,
    "vocab_size": 73448,
}
