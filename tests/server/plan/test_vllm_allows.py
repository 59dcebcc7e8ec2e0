"""A layout is allowed if, and only if, vLLM's own layers and configuration take it."""

import importlib
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from longrope_server.errors import UsageError
from longrope_server.plan import attention, cost, kv_cache
from longrope_server.plan.gpus import GPUS, Cluster, parse
from longrope_server.plan.layouts import Layout, allowed, tensor_sizes
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import Weights

from tests.server.plan import configs
from tests.server.plan.configs import shape, weights_of

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
FP8 = {"quant_method": "fp8"}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
# A model whose KV heads are replicated early and that transformers reads without code of its own.
TWO_KV_HEADS = {**configs.LLAMA2_7B, "model_type": "llama", "num_key_value_heads": 2}
# On eight ranks only a KV head is less than a block of 128.
NARROW_KV_HEADS = {
    **{**configs.LLAMA2_7B, "num_attention_heads": 64, "num_key_value_heads": 8},
    **{"head_dim": 64, "intermediate_size": 16384},
}


@pytest.fixture(scope="module")
def vllm_config() -> Iterator[None]:
    from vllm.config import VllmConfig, set_current_vllm_config

    with set_current_vllm_config(VllmConfig()):
        yield


@contextmanager
def rank_of(tp: int) -> Iterator[None]:
    """vLLM's layers are made as for the first of `tp` ranks."""
    from vllm.distributed import parallel_state

    group = SimpleNamespace(world_size=tp, rank_in_group=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel_state, "get_tp_group", lambda: group)
        yield


def layers(model: ModelShape, tp: int) -> tuple[list[Any], Any]:
    """One layer's linear layers and the embedding table, without memory; an AssertionError."""
    import torch
    from vllm.model_executor.layers import linear
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    hidden, queries = model.hidden, model.heads * model.head_dim
    with rank_of(tp), torch.device("meta"):
        made = [
            linear.QKVParallelLinear(
                hidden, model.head_dim, model.heads, model.kv_heads, bias=False
            ),
            linear.RowParallelLinear(queries, hidden, bias=False),
            linear.MergedColumnParallelLinear(hidden, [model.intermediate] * 2, bias=False),
            linear.RowParallelLinear(model.intermediate, hidden, bias=False),
        ]
        return made, VocabParallelEmbedding(model.vocabulary, hidden)


@pytest.mark.usefixtures("vllm_config")
@pytest.mark.parametrize("name", configs.ALL)
def test_tensor_sizes_are_those_that_the_layers_can_be_made_with(name: str) -> None:
    weights = weights_of(configs.ALL[name])
    model, sizes = weights.shape, []
    for tp in range(1, model.heads + 1):
        try:
            linear, table = layers(model, tp)
        except AssertionError:
            continue
        sizes.append(tp)
        # And a rank holds what is planned for it.
        assert sum(layer.weight.numel() for layer in linear) == weights.linear(tp)
        assert table.weight.numel() == model.padded_vocabulary // tp * model.hidden
    assert sizes == list(tensor_sizes(model, model.heads))


@pytest.mark.parametrize("name", ["LLaMA2-7B", "Mistral-7B", "Qwen2-7B"])
def test_groups_of_quantized_weights_are_split_as_marlin_can(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from vllm.model_executor.kernels.linear.mixed_precision import marlin
    from vllm.model_executor.kernels.linear.mixed_precision.MPLinearKernel import (
        MPLinearLayerConfig,
    )
    from vllm.scalar_type import scalar_types

    monkeypatch.setattr(marlin.current_platform, "is_cuda", lambda: True)
    kinds = [scalar_types.uint4]
    monkeypatch.setattr(marlin, "query_marlin_supported_quant_types", lambda points: kinds)
    weights = weights_of(configs.ALL[name], quantization_config=AWQ)
    model = weights.shape
    for tp in tensor_sizes(model, model.heads):
        takes = [
            marlin.MarlinLinearKernel.can_implement(
                MPLinearLayerConfig(
                    full_weight_shape=(rows, model.hidden),
                    partition_weight_shape=(rows // tp, model.hidden),
                    weight_type=scalar_types.uint4,
                    act_type=torch.bfloat16,
                    group_size=AWQ["group_size"],
                    zero_points=True,
                )
            )
            for rows in (model.heads * model.head_dim, model.intermediate)
        ]
        assert weights.splits(tp) == all(can for can, _ in takes), takes


@pytest.mark.parametrize("config", [*configs.ALL.values(), NARROW_KV_HEADS])
def test_blocks_of_fp8_weights_are_split_as_vllm_can(config: dict[str, Any]) -> None:
    weights = weights_of(config, quantization_config=BLOCKS)
    for tp in list(tensor_sizes(weights.shape, 32))[1:]:
        assert weights.splits(tp) == _blocks_fit(weights, tp)


def _blocks_fit(weights: Weights, tp: int) -> bool:
    from vllm.model_executor.layers.quantization.utils.fp8_utils import validate_fp8_block_shape

    model = weights.shape
    queries, mlp = model.heads * model.head_dim, model.intermediate
    keys = max(1, model.kv_heads // tp) * model.head_dim
    with rank_of(tp):
        try:
            for into, out, into_rank, out_ranks in (
                (model.hidden, queries + 2 * keys * tp, model.hidden, [queries // tp, keys, keys]),
                (queries, model.hidden, queries // tp, [model.hidden]),
                (model.hidden, 2 * mlp, model.hidden, [mlp // tp] * 2),
                (mlp, model.hidden, mlp // tp, [model.hidden]),
            ):
                layer = SimpleNamespace(tp_size=tp)
                sizes = BLOCKS["weight_block_size"]
                validate_fp8_block_shape(layer, into, out, into_rank, out_ranks, sizes)
        except ValueError:
            return False
    return True


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({**configs.LLAMA2_7B, "model_type": "llama"}, id="LLaMA2-7B"),
        pytest.param({**configs.MISTRAL_7B, "model_type": "mistral"}, id="Mistral-7B"),
        pytest.param(TWO_KV_HEADS, id="two KV heads"),
        pytest.param({**configs.QWEN2_7B, "model_type": "qwen2"}, id="Qwen2-7B"),
    ],
)
def test_configurations_are_those_that_vllm_verifies(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """What vLLM's configuration takes and is not planned, its layers refuse or would get wrong."""
    from vllm.config import ParallelConfig
    from vllm.engine.arg_utils import EngineArgs

    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = EngineArgs(model=str(tmp_path), skip_tokenizer_init=True).create_model_config()
    model = shape(config)
    planned = set(allowed(model, Cluster(GPUS[0], 32, 2)))
    sizes = list(tensor_sizes(model, 32))
    for tp, pp, dcp in itertools.product(range(1, 33), (1, 2), (1, 2, 3, 4, 8, 16)):
        try:
            parallel = ParallelConfig(
                tensor_parallel_size=tp,
                pipeline_parallel_size=pp,
                decode_context_parallel_size=dcp,
                distributed_executor_backend="mp",
            )
            theirs.verify_with_parallel_config(parallel)
        except ValueError:
            assert Layout(tp, pp, dcp) not in planned
            continue
        copies = max(1, tp // model.kv_heads)
        shared = dcp == 1 or copies % dcp == 0  # the ranks of a context group have one KV head
        assert (Layout(tp, pp, dcp) in planned) == (tp in sizes and shared)


@pytest.mark.parametrize("dtype", kv_cache.ELEMENT_BYTES)
def test_caches_are_those_that_vllm_takes_for_weights_in_fp8(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from vllm.model_executor.layers.attention import attention as theirs
    from vllm.model_executor.layers.quantization.fp8 import Fp8Config, Fp8KVCacheMethod

    method = Fp8KVCacheMethod(Fp8Config())
    monkeypatch.setattr(theirs, "resolve_quant_method", lambda *_, **__: method)
    layer = torch.nn.Module()
    layer.kv_cache_dtype = dtype  # type: ignore[assignment]
    try:
        theirs._init_kv_cache_quant(layer, Fp8Config(), "")
    except ValueError:
        with pytest.raises(UsageError, match=f"--kv-dtype is '{dtype}'.*auto or fp8"):
            kv_cache.check(dtype, weights_of(configs.LLAMA2_7B, quantization_config=FP8).precision)
    else:
        kv_cache.check(dtype, weights_of(configs.LLAMA2_7B, quantization_config=FP8).precision)
    for other in (AWQ, None):
        kv_cache.check(dtype, weights_of(configs.LLAMA2_7B, quantization_config=other).precision)


def test_attention_kernels_take_what_is_planned() -> None:
    from vllm.platforms.interface import DeviceCapability
    from vllm.v1.attention.backends import flash_attn, triton_attn

    flash = flash_attn.FlashAttentionBackend
    for gpu in GPUS:
        if gpu.capability is None:
            continue
        capability = DeviceCapability(*(int(part) for part in f"{gpu.capability}".split(".")))
        supported = flash.supports_compute_capability(capability)
        assert attention.has_context_parallelism(gpu, element_bytes=2) == supported
        assert triton_attn.TritonAttentionBackend.supports_compute_capability(capability)


@pytest.mark.parametrize(
    ("module", "kernels", "returns"),
    [
        ("flash_attn", "FlashAttentionImpl", True),
        ("triton_attn", "TritonAttentionImpl", False),
        ("rocm_attn", "RocmAttentionImpl", False),
    ],
)
def test_context_parallelism_is_had_by_flash_attention_alone(
    module: str, kernels: str, returns: bool
) -> None:
    backend = importlib.import_module(f"vllm.v1.attention.backends.{module}")
    assert getattr(backend, kernels).can_return_lse_for_decode is returns


@pytest.mark.parametrize("name", [gpu.name for gpu in GPUS] + ["47.5GiB", "96gib", "180GiB"])
def test_a_step_has_the_tokens_that_vllm_gives_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    gpu = parse(name, 1).gpu
    platform = type(current_platform)
    monkeypatch.setattr(platform, "get_device_total_memory", lambda *_: gpu.memory_bytes)
    monkeypatch.setattr(platform, "get_device_name", lambda *_: f"NVIDIA {gpu.name}")
    monkeypatch.setattr(platform, "is_cpu", lambda *_: False)
    tokens, sequences = EngineArgs.get_batch_defaults(world_size=1)
    assert gpu.chunk == tokens[UsageContext.OPENAI_API_SERVER]
    assert sequences[UsageContext.OPENAI_API_SERVER] >= cost.MOST_SEQUENCES


def test_the_document_says_vllms_own_share_of_memory() -> None:
    from vllm.engine.arg_utils import EngineArgs

    document = Path(__file__).parents[3] / "docs" / "planning.md"
    assert f"whose own default is {EngineArgs.gpu_memory_utilization}" in document.read_text()
