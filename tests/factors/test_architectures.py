"""What a config leaves out is what transformers' class for its model type has there."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
from longrope_factors.extension.cost import forward_flops
from longrope_factors.factor_file import hf
from longrope_factors.factor_file.architectures import TABLE, completed
from longrope_factors.factor_file.errors import FactorFileError

from tools import architecture_table

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.mark.long
def test_the_table_is_what_the_installed_transformers_has() -> None:
    text = files("longrope_factors.factor_file").joinpath(TABLE).read_text(encoding="utf-8")
    assert text == architecture_table.dumps(), "run scripts/architectures"


def identity_of(model_type: str, **said: Any) -> tuple[int, float, int]:
    """rotary_dim, theta and original length of a config that says no more than this."""
    found = hf.model_identity({"architectures": ["X"], "model_type": model_type, **said})
    return found.rotary_dim, found.rope_theta, found.original_max_position_embeddings


def transformers_has(model_type: str, **said: Any) -> tuple[int, float, int]:
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, **json.loads(json.dumps(said))).get_text_config()
    head_dim = getattr(config, "qk_rope_head_dim", None) or getattr(config, "head_dim", None)
    if head_dim is None:
        head_dim = config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    share = rope.get("partial_rotary_factor", 1.0)
    return int(head_dim * share), rope["rope_theta"], config.max_position_embeddings


# LLaMA2-7B's config.json as published, but for what says nothing of its shape.
LLAMA2_7B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}


def test_llama2_as_published() -> None:
    found = hf.model_identity(LLAMA2_7B)
    assert (found.rotary_dim, found.rope_theta) == (128, 10000.0)
    assert found.original_max_position_embeddings == 4096


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("llama", {}),
        ("llama", {"hidden_size": 2048, "num_attention_heads": 32, "rope_theta": 5e5}),
        ("mistral", {"head_dim": 96}),
        ("gpt_neox", {"hidden_size": 512, "num_attention_heads": 8}),
        ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 25000, "hidden_size": 1024}),
        ("gpt_neox", {"rope_parameters": {"rope_theta": 7e4, "partial_rotary_factor": 0.75}}),
        ("phi", {"partial_rotary_factor": 0.4, "hidden_size": 2560}),
        ("phi", {}),
        ("persimmon", {}),
        ("stablelm", {"hidden_size": 2048}),
        ("cohere", {}),
        ("cohere2", {"hidden_size": 4096, "num_attention_heads": 32}),
        ("glm", {}),
        ("glm4", {"head_dim": 64}),
        ("gemma", {"hidden_size": 2048, "num_attention_heads": 8}),
        ("gemma2", {"hidden_size": 3584}),
        ("qwen2", {"hidden_size": 896, "num_attention_heads": 14, "rope_theta": 1e6}),
        ("qwen3", {"hidden_size": 1024, "num_attention_heads": 16}),
        ("qwen3_moe", {"num_attention_heads": 16}),
        ("smollm3", {}),
        ("olmo2", {"max_position_embeddings": 4096}),
        ("minicpm3", {}),
        ("deepseek_v3", {"qk_rope_head_dim": 32}),
        ("minimax_m2", {"rotary_dim": 64}),
        ("jetmoe", {"kv_channels": 64}),
        ("dbrx", {"d_model": 6144, "n_heads": 48, "max_seq_len": 32768}),
        ("phi3", {}),
        ("granite", {}),
        ("ernie4_5", {}),
        ("llava", {"text_config": {"model_type": "llama", "max_position_embeddings": 4096}}),
        ("mistral3", {"text_config": {"model_type": "mistral", "head_dim": 64}}),
    ],
)
def test_identity_is_that_of_transformers_config(model_type: str, said: dict[str, Any]) -> None:
    assert identity_of(model_type, **said) == transformers_has(model_type, **said)


@pytest.mark.parametrize(
    ("model_type", "heads"), [("mistral", 8), ("qwen3", 32), ("llama", 16), ("gemma2", 4)]
)
def test_key_value_heads(model_type: str, heads: int) -> None:
    found = completed({"model_type": model_type, "num_attention_heads": 16})
    assert found.get("num_key_value_heads", 16) == heads


def test_a_null_is_no_default() -> None:
    found = completed({"model_type": "mistral", "num_key_value_heads": None, "rope_theta": None})
    assert found["num_key_value_heads"] is None  # as many as heads
    assert found["rope_theta"] == 10000.0


@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma3n_text", "olmo3", "gemma4_text"])
def test_layers_that_rotate_differently_are_refused(model_type: str) -> None:
    config = {"model_type": model_type, "architectures": ["X"], "rope_theta": 1e6}
    with pytest.raises(FactorFileError, match=f'"{model_type}", whose layers rotate differently'):
        hf.model_identity(config)
    assert not hf.is_longrope(config)


@pytest.mark.parametrize("nested", ["default", "linear"])
def test_other_models_of_several_rotations_are_left_alone(nested: str) -> None:
    """The plug-in asks this of every model that vLLM loads."""
    rope = {"full_attention": {"rope_type": nested}, "sliding_attention": {"rope_type": "default"}}
    config = {"model_type": "gemma3_text", "rope_parameters": rope}
    assert not hf.is_longrope(config)
    rope["full_attention"] = {"rope_type": "longrope"}
    assert hf.is_longrope(config)


def test_cost_of_a_config_that_leaves_out_its_heads() -> None:
    said = {"num_attention_heads": 32, "num_hidden_layers": 32, "hidden_size": 4096}
    sparse = {"model_type": "mistral", **said}
    whole = {
        **said,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 14336,
        "vocab_size": 32000,
    }
    assert forward_flops(sparse, 1000) == forward_flops(whole, 1000)


def test_reading_a_config_imports_nothing_heavy() -> None:
    script = (
        "import json, sys; from longrope_factors.factor_file import hf; "
        "heavy = {'transformers', 'torch', 'numpy'} & set(sys.modules); "
        "print(hf.base(json.loads(sys.argv[1])).identity.rope_theta, heavy or 'light')"
    )
    words = [sys.executable, "-c", script, json.dumps(LLAMA2_7B)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10000.0", "light"]
