"""The room for adapters is what vLLM's LoRA layers take."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from longrope_factors.factor_file import hf, methods, schema
from longrope_factors.factor_file.schema import Adapter, FactorFile
from longrope_server.plan import adapters
from longrope_server.plan.adapters import Adapters
from longrope_server.plan.layouts import Layout, tensor_sizes
from longrope_server.plan.units import size

from tests.server.models import write_model
from tests.server.plan import configs
from tests.server.plan.configs import shape
from tests.server.plan.test_plan_command import Run
from tests.server.plan.test_vllm_allows import layers, rank_of, vllm_config  # noqa: F401

DOCUMENT = Path(__file__).parents[3] / "docs" / "planning.md"
MODULES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Phi3ForCausalLM": "phi3",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "MiniCPMForCausalLM": "minicpm",
}


def model_class(architecture: str) -> Any:
    from importlib import import_module

    module = import_module(f"vllm.model_executor.models.{MODULES[architecture]}")
    return getattr(module, architecture)


def tensors(layer: Any) -> Iterator[Any]:
    """The stacked A and B of a LoRA layer."""
    yield from layer.lora_a_stacked
    yield from layer.lora_b_stacked


@pytest.mark.usefixtures("vllm_config")
@pytest.mark.parametrize(("slots", "rank"), [(1, 16), (3, 8), (2, 320)])
@pytest.mark.parametrize("name", configs.ALL)
def test_a_rank_holds_what_vllms_lora_layers_hold(name: str, slots: int, rank: int) -> None:
    import torch
    from vllm.config.lora import LoRAConfig
    from vllm.lora.utils import from_layer

    model = shape(configs.ALL[name])
    theirs = model_class(model.architecture)
    config = LoRAConfig(max_lora_rank=rank, max_loras=slots, lora_dtype=torch.bfloat16)
    names = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    room = Adapters(model, slots, rank)
    for tp in tensor_sizes(model, model.heads):
        linear, _ = layers(model, tp)
        with rank_of(tp):
            wrapped = [
                from_layer(layer, slots, config, theirs.packed_modules_mapping.get(name, []))
                for name, layer in zip(names, linear, strict=True)
            ]
        of_layer = sum(tensor.nbytes for layer in wrapped for tensor in tensors(layer))
        assert of_layer == 2 * slots * rank * room.layer(tp)
        assert room.stage_bytes(Layout(tp, 1, 1)) == [model.layers * of_layer]


@pytest.mark.parametrize("pp", [2, 3, 7])
def test_stages_hold_those_of_their_layers(pp: int) -> None:
    room = Adapters(shape(configs.LLAMA2_7B), slots=1, rank=1)
    [whole] = room.stage_bytes(Layout(1, 1, 1))
    assert sum(room.stage_bytes(Layout(1, pp, 1))) == whole


def test_ranks_are_vllms() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == adapters.RANKS


def factor_file(config: dict[str, Any], *ranks: int | None) -> FactorFile:
    """Sets of one and more times the original length, each with an adapter of that rank or none."""
    identity = hf.model_identity(config, "a model")
    original = identity.original_max_position_embeddings
    sets = [
        methods.factor_set("ntk", identity, original * ratio).model_copy(
            update={"adapter": rank and adapter(rank)}
        )
        for ratio, rank in enumerate(ranks, start=1)
    ]
    return schema.build(identity, sets)


def adapter(rank: int) -> Adapter:
    return Adapter(folder="adapter", sha256="a" * 64, rank=rank, scale=2.0, base_sha256="b" * 64)


@pytest.mark.parametrize(
    ("ranks", "slots", "rank"),
    [((None, 16), 1, 16), ((None, 4, 65), 2, 128), ((1, 1, 1), 3, 1), ((None, 9, None), 1, 16)],
)
def test_there_is_a_slot_for_each_adapter(
    ranks: tuple[int | None, ...], slots: int, rank: int
) -> None:
    model = shape(configs.LLAMA2_7B)
    found = adapters.of(model, factor_file(configs.LLAMA2_7B, *ranks))
    assert (found.slots, found.rank) == (slots, rank)


def test_without_adapters_there_is_no_room() -> None:
    model = shape(configs.LLAMA2_7B)
    for given in (None, factor_file(configs.LLAMA2_7B, None, None)):
        assert adapters.of(model, given).stage_bytes(Layout(1, 2, 1)) == [0, 0]


@pytest.mark.parametrize("gpu", [("H100", 1), ("H200", 1), ("A100-80", 1)])
def test_a_plan_leaves_room_for_them(
    gpu: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "llama", configs.LLAMA2_7B)
    plans = []
    for number, ranks in enumerate([(None, None), (None, 256)]):
        path = tmp_path / f"{number}.json"
        schema.save(factor_file(configs.LLAMA2_7B, *ranks), path)
        words = [str(model), "--factors", str(path), "--gpu", f"{gpu[0]}:{gpu[1]}"]
        plans.append(Run(capsys, *words, "--json").document)
        shown = Run(capsys, *words).out
    plain, adapted = plans
    expected = sum(Adapters(shape(configs.LLAMA2_7B), 1, 256).stage_bytes(Layout(1, 1, 1)))
    assert (adapted["adapter_slots"], adapted["adapter_rank"]) == (1, 256)
    assert adapted["adapter_bytes"] == expected
    assert plain["adapter_bytes"] == plain["adapter_slots"] == 0
    spare = [plan["lengths"][0]["placed"]["spare_bytes"] for plan in plans]
    assert spare[0] - spare[1] == expected
    block = 16 * plain["kv_bytes_per_token"]
    fewer = plain["max_tokens_that_fit"] - adapted["max_tokens_that_fit"]
    assert abs(fewer * plain["kv_bytes_per_token"] - expected) <= block
    assert f"adapters         {size(expected)}; room for 1 of rank 256 on one GPU" in shown


def test_numbers_in_the_text() -> None:
    text = " ".join(DOCUMENT.read_text().split())
    room = Adapters(shape(configs.LLAMA2_7B), 1, 16)
    one, eighth = (size(*room.stage_bytes(Layout(tp, 1, 1))) for tp in (1, 8))
    assert f"that is {one} on one GPU and {eighth} on each of eight" in text
    assert f"vLLM's ranks ({', '.join(map(str, adapters.RANKS))})" in re.sub(r"\s+", " ", text)
