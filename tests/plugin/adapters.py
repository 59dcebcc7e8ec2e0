"""Adapters of random numbers beside a tiny model, and Hugging Face's models with them merged."""

import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.schema import Adapter, build, save
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import engine
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import DEVICE, Reference

if TYPE_CHECKING:
    from vllm import LLM

# vLLM's kernels for adapters on a GPU take 16 bits only. Of 10,917 tokens that such a model gave in
# float16 on a CPU, 93 were not float32's, at most 0.037 of the largest logit below its best. Of the
# tokens of wrong weights or sets, 1 in 158 is within 0.06.
DTYPE = torch.float16 if ON_GPU else torch.float32
ROUNDING = 0.06 if ON_GPU else None

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 4
ALPHA = 8


def adapted_model(directory: Path, *indices: int) -> TinyModel:
    """A tiny model in DTYPE whose sets of these indices have an adapter each."""
    return give_adapters(tiny_model(directory, dtype=DTYPE), *indices)


def adapted_engine(model: TinyModel, **arguments: Any) -> "AbstractContextManager[LLM]":
    """An engine of such a model, in DTYPE."""
    return engine(model, dtype=str(DTYPE).removeprefix("torch."), **arguments)


def adapted_reference(model: TinyModel, adapters: dict[int, int]) -> Reference:
    """What Hugging Face computes in float32. adapters: by set, the set whose adapter it has."""
    reference = Reference(model.directory, model.factor_file, rounding=ROUNDING)
    reference.models.update({index: merged(model, of) for index, of in adapters.items()})
    return reference


def give_adapters(model: TinyModel, *indices: int) -> TinyModel:
    """Writes an adapter for the sets of these indices, and the factor file that names them."""
    weights = load_file(model.directory / "model.safetensors")
    sets = list(model.factor_file.sets)
    for index in indices:
        adapter = _written(model.directory, f"adapter-{index}", weights, seed=index)
        sets[index] = sets[index].model_copy(update={"adapter": adapter})
    factor_file = build(model.factor_file.model, sets)
    save(factor_file, model.directory / "longrope_factors.json")
    return TinyModel(model.directory, factor_file)


def _written(directory: Path, name: str, weights: dict[str, torch.Tensor], seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, weight in weights.items():
        module = key.removesuffix(".weight")
        if module.rpartition(".")[2] in TARGETS:
            out, into = weight.shape
            a = torch.randn(RANK, into, generator=generator) * into**-0.5
            b = torch.randn(out, RANK, generator=generator) * RANK**-0.5
            tensors[f"base_model.model.{module}.lora_A.weight"] = a.to(weight.dtype)
            tensors[f"base_model.model.{module}.lora_B.weight"] = b.to(weight.dtype)
    folder = directory / name
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": list(TARGETS),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    content = (folder / "adapter_model.safetensors").read_bytes()
    return Adapter(
        folder=name,
        sha256=hashlib.sha256(content).hexdigest(),
        rank=RANK,
        scale=ALPHA / RANK,
        base_sha256=model_directory.weights_sha256(directory),
    )


def merged(model: TinyModel, index: int) -> torch.nn.Module:
    """Hugging Face's model with the adapter of set `index` added to its weights."""
    loaded = AutoModelForCausalLM.from_pretrained(model.directory, dtype=torch.float32).eval()
    adapter = model.factor_file.sets[index].adapter
    assert adapter is not None
    tensors = load_file(model.directory / adapter.folder / "adapter_model.safetensors")
    with torch.no_grad():
        for name, parameter in loaded.named_parameters():
            module = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{module}.lora_A.weight" in tensors:
                a, b = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
                parameter += b.float() @ a.float() * (ALPHA / RANK)
    return loaded.to(DEVICE)
