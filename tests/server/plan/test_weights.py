"""Parameters and bytes, against what the models' authors and files say."""

import re
from typing import Any

import pytest
from longrope_factors.factor_file import hf
from longrope_factors.factor_file.errors import FactorFileError
from longrope_server.errors import UsageError
from longrope_server.plan import weights as plan_weights
from longrope_server.plan.layouts import Layout
from longrope_server.plan.model_shape import ARCHITECTURES
from longrope_server.serve.embedded import model_directory

from tests.server.plan import configs
from tests.server.plan.configs import shape, weights_of

SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    "vocab_size",
)
# What transformers has no class for, and what these sizes do not describe.
NEEDS_MORE = re.compile("MiniCPM|Moe|Qwen3_5")
# The numbers in the checkpoints' tensors, tied ones once.
PARAMETERS = {
    "LLaMA2-7B": 6_738_415_616,
    "Mistral-7B": 7_241_732_096,
    "Phi-3-mini-128k": 3_821_079_552,
    "SmolLM2-135M": 134_515_008,
    "Qwen2-7B": 7_615_616_512,
    "Qwen3-0.6B": 596_049_920,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_checkpoint(name: str) -> None:
    weights = weights_of(configs.ALL[name])
    assert weights.parameters == PARAMETERS[name]
    assert weights.total_bytes == 2 * PARAMETERS[name]


def test_llama2_weighs_13_476_gigabytes() -> None:
    assert weights_of(configs.LLAMA2_7B).total_bytes == 13_476_831_232


def test_the_embedded_model_is_as_large_as_its_file() -> None:
    directory = model_directory()
    file = directory / "model.safetensors"
    with file.open("rb") as content:
        header = 8 + int.from_bytes(content.read(8), "little")
    weights = weights_of(hf.read_config(directory))
    assert weights.total_bytes == file.stat().st_size - header


def test_biases_count() -> None:
    plain = weights_of(configs.SMOLLM2).parameters
    biased = weights_of(configs.SMOLLM2, attention_bias=True, mlp_bias=True).parameters
    heads = (9 + 2 * 3) * 64  # into attention
    assert biased - plain == 30 * (heads + 576 + 2 * 1536 + 576)


@pytest.mark.parametrize(
    ("quantization", "bytes_of_one"),
    [
        ({"quant_method": "fp8"}, 1),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, (4 + 20 / 128) / 8),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, (4 + 20 / 64) / 8),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 1),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 1),
    ],
)
def test_quantized_weights(quantization: dict[str, Any], bytes_of_one: float) -> None:
    weights = weights_of(configs.LLAMA2_7B, quantization_config=quantization)
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    plain = 2 * (6_738_415_616 - linear)
    assert weights.total_bytes == plain + round(linear * bytes_of_one)
    assert quantization["quant_method"] in weights.precision.assumed


@pytest.mark.parametrize("place", [(), ("text_config",)])
@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
def test_quantization_is_found_where_vllm_finds_it(place: tuple[str, ...], field: str) -> None:
    from transformers import PretrainedConfig
    from vllm.config.model import ModelArchConfigConvertorBase

    said: dict[str, Any] = {field: {"quant_method": "fp8"}}
    for name in place:
        said = {name: said}
    theirs = PretrainedConfig(**said)
    if place:
        theirs.text_config = PretrainedConfig(**said[place[0]])
    convertor = ModelArchConfigConvertorBase(theirs, theirs)
    assert convertor.get_quantization_config()["quant_method"] == "fp8"
    assert plan_weights.precision_of(said).linear_bytes == 1


@pytest.mark.parametrize("name", configs.ALL)
def test_the_ranks_hold_the_whole_model(name: str) -> None:
    weights = weights_of(configs.ALL[name])
    padding = 2 * (weights.shape.padded_vocabulary - weights.shape.vocabulary)
    one = weights.stage_bytes(Layout(1, 1, 1))
    tables = 1 if weights.shape.tied else 2
    # vLLM's final norm is the only thing that is not counted for a GPU.
    norm = 2 * weights.shape.hidden
    assert sum(one) == weights.total_bytes + tables * padding * weights.shape.hidden - norm
    # Tied tables are on the first stage and on the last.
    again = weights.stage_bytes(Layout(1, 4, 1))
    table = 2 * weights.shape.padded_vocabulary * weights.shape.hidden
    assert sum(again) == sum(one) + (table if weights.shape.tied else 0)


def test_replicated_kv_heads_are_held_by_every_rank() -> None:
    weights = weights_of(configs.MINICPM4_8B)
    assert weights.linear(8) == 4096 * (2 * 4 * 128 + 2 * 1 * 128 + 3 * 2048)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match=r"GPT2LMHeadModel.*known are LlamaForCausalLM, Mistral"):
        shape({"architectures": ["GPT2LMHeadModel"]})
    with pytest.raises(UsageError, match="mixture of experts"):
        shape(configs.MINICPM4_8B, num_experts=8)
    # Its cache is not one of keys and values by head (MLA).
    with pytest.raises(UsageError, match=r"DeepseekV3ForCausalLM\", whose size is not known"):
        shape({**configs.LLAMA2_7B, "architectures": ["DeepseekV3ForCausalLM"]}, kv_lora_rank=512)


@pytest.mark.parametrize(
    ("quantization", "sentence"),
    [
        ({"quant_method": "bitsandbytes"}, "bitsandbytes.*known are fp8, awq and gptq"),
        ("awq", '"awq", whose size is not known here'),
        ({"quant_method": "\x1b]0;"}, r'quantized by "\\u001b]0;", whose'),
        ({"quant_method": "awq", "bits": 4}, "no quantization_config.group_size"),
        ({"quant_method": "awq", "bits": 4, "group_size": 0}, "group_size 0; it should be"),
        ({"quant_method": "gptq", "group_size": 128}, "no quantization_config.bits"),
        ({"quant_method": "gptq", "bits": "4", "group_size": 128}, 'bits "4"; it should be'),
        ({"quant_method": "fp8", "weight_block_size": 128}, "weight_block_size 128; it should be"),
        ({"quant_method": "fp8", "weight_block_size": [128, 0]}, "weight_block_size 0; it should"),
    ],
)
def test_quantization_that_is_not_known_is_refused(quantization: Any, sentence: str) -> None:
    with pytest.raises((UsageError, FactorFileError), match=sentence):
        weights_of(configs.LLAMA2_7B, quantization_config=quantization)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"intermediate_size": None}, "no intermediate_size; it should be a whole number"),
        ({"hidden_size": "4096"}, 'hidden_size "4096"; it should be a whole number'),
        ({"num_key_value_heads": 7}, "32 attention heads and 7 KV heads; the first should be a mu"),
        ({"num_key_value_heads": 0}, "num_key_value_heads 0; it should be a whole number from 1"),
        ({"num_key_value_heads": 64}, "32 attention heads and 64 KV heads"),
        ({"hidden_size": 31}, "head_dim 0; it should be a whole number from 1"),
        ({"layer_types": "sliding_attention"}, "layer_types .* one name for each of 32"),
        ({"layer_types": ["full_attention"] * 31}, "layer_types .* one name for each of 32 layers"),
        ({"layer_types": [["full_attention"]] * 32}, "layer_types .* one name for each of 32"),
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers 2147483647; it should be 1,000 at m"),
        ({"architectures": []}, "architecture is null, whose size is not known here: known are"),
        ({"architectures": ["\x1b]0;\n"]}, r'architecture is "\\u001b]0;\\n", whose size'),
        ({"architectures": [["x"]]}, "whose size is not known here: known are"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises((UsageError, FactorFileError), match=sentence):
        shape(configs.LLAMA2_7B, **changes)


@pytest.mark.parametrize(
    "architecture",
    [architecture for architecture in ARCHITECTURES if not NEEDS_MORE.search(architecture)],
)
def test_what_a_config_leaves_out_is_what_transformers_takes(architecture: str) -> None:
    import transformers

    theirs = getattr(transformers, architecture.replace("ForCausalLM", "Config"))
    sizes = {key: configs.LLAMA2_7B[key] for key in SIZES}
    full = theirs(**sizes).to_dict()
    assert shape({**sizes, "architectures": [architecture]}) == shape(
        {**full, "architectures": [architecture]}
    )
