"""A model directory, loaded: the model with what identifies it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_factors import hf
from longrope_factors.schema import ModelIdentity


@dataclass(frozen=True)
class LoadedModel:
    """A Hugging Face causal language model in evaluation mode, and who it is."""

    model: Any
    identity: ModelIdentity
    weights_sha256: str


def identity_of(model_dir: Path, name: str | None = None) -> ModelIdentity:
    """Who the model in `model_dir` is; called after its folder where no name is given."""
    return hf.model_identity(hf.read_config(model_dir), name or model_dir.resolve().name)


def load(model_dir: Path, device: str | None = None, dtype: str = "bfloat16") -> LoadedModel:
    """The model in `model_dir`, with PyTorch's SDPA as attention.

    `device` None is a GPU where there is one. Raises ValueError where there are no safetensors
    weights, FactorFileError where the config has no rotary embedding.
    """
    import torch
    from transformers import AutoModelForCausalLM

    identity = identity_of(model_dir)
    weights_sha256 = sha256_of(weights(model_dir))
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return LoadedModel(model, identity, weights_sha256)


def weights(model_dir: Path) -> list[Path]:
    """The safetensors files of a model directory; ValueError where there are none."""
    paths = list(model_dir.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{model_dir}: has no *.safetensors file with the model's weights.")
    return paths


def sha256_of(paths: list[Path]) -> str:
    """One SHA-256 over the contents of the files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
