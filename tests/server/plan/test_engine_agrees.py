"""The cache is counted as vLLM counts it, by its own functions and by a running engine."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from longrope_factors.cpu import lacks_bfloat16
from longrope_factors.factor_file import hf
from longrope_server.plan import layouts
from longrope_server.plan.kv_cache import KvCache
from longrope_server.serve.embedded import model_directory

from tests.server.plan import configs
from tests.server.plan.configs import shape
from tests.serving import Server

GIB = 2**30
MIXED = ["sliding_attention", "sliding_attention", "full_attention"] * 10


@pytest.fixture(scope="module")
def vllm_config() -> Iterator[Any]:
    """A configuration without a model; its layout is what a GPU's attention asks for."""
    from vllm.config import VllmConfig

    config = VllmConfig()
    config.cache_config.kv_cache_layout = "LBNHC"
    return config


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("available", [GIB, 13 * GIB + 12345])
@pytest.mark.parametrize(
    ("config", "changes", "tp", "pp", "dcp"),
    [
        (configs.SMOLLM2, {}, 1, 1, 1),
        (configs.SMOLLM2, {}, 3, 4, 1),
        (configs.LLAMA2_7B, {}, 8, 2, 1),
        (configs.MISTRAL_7B, {}, 4, 3, 1),
        (configs.MISTRAL_7B, {"sliding_window": 4096}, 1, 1, 1),
        (configs.PHI_3_MINI_128K, {}, 2, 1, 1),
        (configs.MINICPM4_8B, {}, 8, 1, 4),
        (configs.MINICPM4_8B, {}, 8, 5, 2),
        (configs.SMOLLM2, {"layer_types": MIXED, "sliding_window": 512}, 1, 1, 1),
        (configs.SMOLLM2, {"layer_types": MIXED, "sliding_window": 512}, 3, 4, 1),
        (configs.SMOLLM2, {"layer_types": MIXED[:2] + MIXED[:28], "sliding_window": 99}, 1, 2, 1),
    ],
)
def test_the_longest_request_is_the_one_that_vllm_would_fit(
    vllm_config: Any,
    config: dict[str, Any],
    changes: dict[str, Any],
    tp: int,
    pp: int,
    dcp: int,
    available: int,
    dtype: str,
) -> None:
    """vLLM's `--max-model-len auto`, for workers that have so many bytes left each."""
    from vllm.v1.core import kv_cache_utils

    model = shape(config, **changes)
    element = getattr(torch, dtype)
    cache = KvCache(model, element.itemsize)
    stages = layouts.stages(model.layers, pp)
    specs = [{f"{i}": _spec(cache, i, tp, element) for i in stage} for stage in stages]
    parallel = vllm_config.parallel_config
    parallel.pipeline_parallel_size, parallel.decode_context_parallel_size = pp, dcp
    vllm_config.model_config = SimpleNamespace(max_model_len=2**31 - 1, original_max_model_len=-1)
    in_flight = vllm_config.max_in_flight_tokens

    found = kv_cache_utils.get_kv_cache_configs(vllm_config, specs, [available] * pp)

    blocks = min(available // cache.block_bytes(tp, stage) for stage in stages)
    assert {kv_cache_config.num_blocks for kv_cache_config in found} == {blocks}
    longest = cache.longest(blocks - 1, in_flight, dcp)
    assert longest == vllm_config.model_config.max_model_len
    # And how many requests of another length there is room for.
    vllm_config.model_config.max_model_len = 8192
    at_once = kv_cache_utils.get_max_concurrency_for_kv_cache_config(vllm_config, found[0])
    assert at_once == pytest.approx(blocks / cache.blocks(8192, in_flight, dcp))


def _spec(cache: KvCache, layer: int, tp: int, dtype: Any) -> Any:
    """What vLLM's Attention layer gives (Attention.get_kv_cache_spec)."""
    from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

    common = {
        "block_size": cache.block_size,
        "num_kv_heads": max(1, cache.shape.kv_heads // tp),
        "head_size": cache.shape.head_dim,
        "dtype": dtype,
    }
    if (window := cache.shape.windows[layer]) is None:
        return FullAttentionSpec(**common)
    return SlidingWindowSpec(**common, sliding_window=window)


@pytest.mark.parametrize("pp", [1, 2, 3, 7, 30])
def test_stages_are_those_of_vllm(pp: int) -> None:
    from vllm.distributed.utils import get_pp_indices

    theirs = [range(*get_pp_indices(30, rank, pp)) for rank in range(pp)]
    assert layouts.stages(30, pp) == theirs


def test_a_running_engine_has_the_room_that_is_planned(embedded_server: Server) -> None:
    """The server of all tests keeps 2 GiB for keys and values (tests/serving.py)."""
    metrics = httpx.get(f"{embedded_server.url}/metrics", timeout=60).text
    line = next(line for line in metrics.splitlines() if "cache_config_info{" in line)
    reported = {name: int(re.findall(rf'\b{name}="(\d+)"', line)[0]) for name in ROOM}
    engine_tokens = reported["num_gpu_blocks"] * reported["block_size"]

    element_bytes = 4 if lacks_bfloat16(torch.cpu.get_capabilities()) else 2
    cache = KvCache(shape(hf.read_config(model_directory())), element_bytes)

    assert engine_tokens == pytest.approx(2 * GIB / cache.bytes_per_token, rel=0.02)


ROOM = ("num_gpu_blocks", "block_size")
