"""An adapter beside a tiny model, as peft writes it, and the factor file that names it."""

import json
from pathlib import Path
from typing import Any

import torch
from longrope_factors.factor_file import methods, model_directory, schema, weight_files
from longrope_factors.factor_file.schema import Adapter, FactorFile
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.factors import finetuning

FACTORS = "factors.json"
RANK = 4


def save(model_dir: Path, folder: Path, **config: Any) -> Adapter:
    """A random adapter for the model, in a new folder; `config` as peft's LoraConfig has it."""
    torch.manual_seed(1)
    given = {"r": RANK, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    tuned = get_peft_model(model, LoraConfig(**{**given, **config}))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(folder)
    return named(folder, model_dir)


def beside_a_model(folder: Path) -> Path:
    """`folder`, with a tiny `model`, an `adapter` and the factor file that names it."""
    model = finetuning.tiny_model(folder / "model")
    schema.save(factor_file(model, save(model, folder / "adapter")), folder / FACTORS)
    return folder


def named(folder: Path, model_dir: Path, **changes: Any) -> Adapter:
    """What a factor file beside `folder` says of the adapter in it."""
    config = json.loads((folder / "adapter_config.json").read_text())
    return Adapter(
        **{
            "folder": folder.name,
            "sha256": weight_files.sha256([folder / "adapter_model.safetensors"]),
            "rank": config["r"],
            "scale": config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1),
            "base_sha256": model_directory.weights_sha256(model_dir),
            **changes,
        }
    )


def factor_file(model_dir: Path, adapter: Adapter) -> FactorFile:
    """The original set without an adapter, and one of twice the length with it."""
    identity = model_directory.identity_of(model_dir)
    original = identity.original_max_position_embeddings
    short = methods.factor_set("original", identity, original)
    long = methods.factor_set("ntk", identity, 2 * original)
    return schema.build(identity, [short, long.model_copy(update={"adapter": adapter})])
