"""Qwen3, its mixtures of experts and Qwen3.5's hybrids, as their published configs say."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from longrope_factors.factor_file.errors import FactorFileError
from longrope_server.errors import UsageError
from longrope_server.plan import cost, layouts
from longrope_server.plan.kv_cache import KvCache
from longrope_server.plan.layouts import Layout

from tests import published_models as published
from tests.server.plan.configs import cache_of, shape, weights_of

GIB = 2**30
# All parameters, those that a token passes with the output's, and KV bytes of a token.
MODELS: dict[str, tuple[dict[str, Any], int, int]] = {
    "Qwen3-4B": (published.QWEN3_4B, 4_022_468_096, 2 * 36 * 8 * 128 * 2),
    "Qwen3-8B": (published.QWEN3_8B, 8_190_735_360, 2 * 36 * 8 * 128 * 2),
    "Qwen3-32B": (published.QWEN3_32B, 32_762_123_264, 2 * 64 * 8 * 128 * 2),
    "Qwen3-30B-A3B": (published.QWEN3_30B_A3B, 30_532_122_624, 2 * 48 * 4 * 128 * 2),
    "Qwen3-235B-A22B": (published.QWEN3_235B_A22B, 235_093_634_560, 2 * 94 * 4 * 128 * 2),
    # Without the vision tower; every fourth layer has keys and values.
    "Qwen3.5-9B": (published.QWEN3_5_9B, 8_953_803_264, 2 * 8 * 4 * 256 * 2),
    "Qwen3.5-27B": (published.QWEN3_5_27B, 26_895_998_464, 2 * 16 * 4 * 256 * 2),
    "Qwen3.5-35B-A3B": (published.QWEN3_5_35B_A3B, 34_660_610_688, 2 * 10 * 2 * 256 * 2),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_cache(name: str) -> None:
    config, parameters, token_bytes = MODELS[name]
    weights = weights_of(config)
    assert weights.parameters == parameters
    assert weights.total_bytes == 2 * parameters
    assert cache_of(config).bytes_per_token == token_bytes
    assert cache_of(config, "fp8").bytes_per_token == token_bytes // 2


@pytest.mark.parametrize("name", ["Qwen3-8B", "Qwen3-235B-A22B", "Qwen3.5-9B", "Qwen3.5-35B-A3B"])
def test_parameters_are_those_of_transformers_model(name: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config, parameters, _ = MODELS[name]
    said = json.loads(json.dumps(config.get("text_config", config)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**said))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_token_passes_22_of_235_billion_parameters() -> None:
    weights = weights_of(published.QWEN3_235B_A22B)
    embeddings = 151936 * 4096
    assert weights.read_bytes(1) / 2 == pytest.approx(22.2e9 - embeddings, rel=0.01)
    assert cost.linear_flops(weights, 1000) / 2000 == pytest.approx(
        22.2e9 - 2 * embeddings, rel=0.02
    )


def test_the_ranks_hold_all_experts() -> None:
    weights = weights_of(published.QWEN3_30B_A3B)
    one, of_four = (sum(weights.stage_bytes(Layout(tp, 1, 1))) for tp in (1, 4))
    everywhere = 2 * 48 * weights.small(1)  # norms and routers
    assert 4 * of_four == one + 3 * everywhere


def test_experts_and_linear_heads_bound_tensor_parallelism() -> None:
    assert list(layouts.tensor_sizes(shape(published.QWEN3_30B_A3B), 8)) == [1, 2, 4, 8]
    narrow = shape(published.QWEN3_30B_A3B, moe_intermediate_size=6)
    assert list(layouts.tensor_sizes(narrow, 8)) == [1, 2]
    assert list(layouts.tensor_sizes(shape(published.QWEN3_5_27B), 8)) == [1, 2, 4, 8]
    assert list(layouts.context_sizes(shape(published.QWEN3_5_27B), 8)) == [1]


@pytest.mark.parametrize("available", [20 * GIB, 40 * GIB + 12345])
@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("name", ["Qwen3.5-9B", "Qwen3.5-27B", "Qwen3.5-35B-A3B"])
def test_a_hybrids_cache_is_vllms(name: str, tp: int, available: int) -> None:
    """Blocks and the longest request, by vLLM's own functions for the layers' specifications."""
    from vllm.config import VllmConfig
    from vllm.v1.core import kv_cache_utils

    vllm_config = VllmConfig()
    vllm_config.cache_config.kv_cache_layout = "LBNHC"
    vllm_config.cache_config.mamba_cache_mode = "align"
    cache = cache_of(MODELS[name][0])
    vllm_config.cache_config.block_size = cache.tokens_of_a_block(tp)
    vllm_config.model_config = SimpleNamespace(max_model_len=2**31 - 1, original_max_model_len=-1)
    specs = {f"{layer}": _spec(cache, layer, tp) for layer in range(cache.shape.layers)}
    (found,) = kv_cache_utils.get_kv_cache_configs(vllm_config, [specs], [available])
    assert found.num_blocks == available // cache.block_bytes(tp)
    in_flight = vllm_config.max_in_flight_tokens
    longest = cache.longest(found.num_blocks - 1, in_flight, tp=tp)
    assert longest == vllm_config.model_config.max_model_len


def _spec(cache: KvCache, layer: int, tp: int) -> Any:
    """What vLLM's layers give, on a rank of `tp`."""
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MambaSpec

    block = cache.tokens_of_a_block(tp)
    attention = FullAttentionSpec(
        block_size=block,
        num_kv_heads=max(1, cache.shape.kv_heads // tp),
        head_size=cache.shape.head_dim,
        dtype=torch.bfloat16,
    )
    linear = cache.shape.linear
    if linear is None or not cache.shape.is_linear(layer):
        return attention
    shapes = MambaStateShapeCalculator.gated_delta_net_state_shape(
        *(tp, linear.key_heads, linear.value_heads, linear.key_dim, linear.value_dim),
        linear.kernel,
    )
    dtypes = (torch.bfloat16, torch.float32)
    assert MambaSpec(block_size=-1, shapes=shapes, dtypes=dtypes).page_size_bytes == (
        linear.state_bytes(tp)
    )
    return MambaSpec(
        block_size=block,
        shapes=shapes,
        dtypes=dtypes,
        page_size_padded=attention.page_size_bytes,
        mamba_cache_mode="align",
    )


def test_layer_types_that_are_left_out_are_transformers() -> None:
    text = {**published.QWEN3_5_9B["text_config"], "layer_types": None}
    assert shape(published.QWEN3_5_9B, text_config=text) == shape(published.QWEN3_5_9B)


def test_a_hybrids_block_is_as_large_as_its_state() -> None:
    """vLLM says 'Setting attention block size to 528 tokens' of such a model."""
    cache = cache_of(published.QWEN3_5_9B)
    assert cache.tokens_of_a_block() == 528
    # Twice the length: only the attention's cache grows.
    short, long = (cache.request_bytes(528 * count, 0) for count in (100, 200))
    assert long - short == 100 * 528 * cache.bytes_per_token


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_experts": None}, "no num_experts; it should be a whole number"),
        ({"moe_intermediate_size": None}, "no moe_intermediate_size; it should be a whole number"),
        ({"num_experts_per_tok": "8"}, 'num_experts_per_tok "8"; it should be a whole number'),
        ({"mlp_only_layers": 3}, "mlp_only_layers 3; it should be a list"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step 0; it should be a whole number"),
    ],
)
def test_experts_that_make_no_sense_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FactorFileError, match=sentence):
        shape(published.QWEN3_30B_A3B, **changes)


def test_linear_attention_that_makes_no_sense_is_refused() -> None:
    text = {**published.QWEN3_5_9B["text_config"], "linear_key_head_dim": None}
    with pytest.raises(FactorFileError, match="no linear_key_head_dim"):
        shape(published.QWEN3_5_9B, text_config=text)
    for dtype, said in (("int8", '"int8"'), (["float32"], r'\["float32"\]')):
        text = {**published.QWEN3_5_9B["text_config"], "mamba_ssm_dtype": dtype}
        with pytest.raises(UsageError, match=f"mamba_ssm_dtype {said}; known are float32"):
            shape(published.QWEN3_5_9B, text_config=text)
