"""A model directory, loaded: the model with what identifies it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import hf, weight_files
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.schema import ModelIdentity


@dataclass(frozen=True)
class LoadedModel:
    """A Hugging Face causal language model in evaluation mode, and who it is."""

    model: Any
    identity: ModelIdentity
    directory: Path

    @property
    def weights_sha256(self) -> str:
        """Of the files in `directory`: `weights_sha256`."""
        return weights_sha256(self.directory)


def base_of(model_dir: Path, name: str | None = None) -> Base:
    """The model in `model_dir` as it ships; called after its folder where no name is given."""
    return hf.base(hf.read_config(model_dir), name or model_dir.resolve().name, model_dir)


def identity_of(model_dir: Path, name: str | None = None) -> ModelIdentity:
    """Who the model in `model_dir` is; called after its folder where no name is given."""
    return hf.model_identity(hf.read_config(model_dir), name or model_dir.resolve().name)


def load(model_dir: Path, device: str | None = None, dtype: str = "bfloat16") -> LoadedModel:
    """The model in `model_dir`, with PyTorch's SDPA as attention.

    `device` None is a GPU where there is one. Raises ValueError where there are no safetensors
    weights or not all of the model's, FactorFileError where the config has no rotary embedding.
    """
    import torch
    from transformers import AutoModelForCausalLM

    identity = identity_of(model_dir)
    weights(model_dir)
    model, found = AutoModelForCausalLM.from_pretrained(
        model_dir,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"{model_dir}: has no weights for {len(missing)} of the model's tensors, such as "
            f"{missing[0]}, which would be random numbers."
        )
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return LoadedModel(model, identity, model_dir)


def weights(model_dir: Path) -> list[Path]:
    """The safetensors files of a model directory; ValueError where there are none, or not all."""
    paths = list(model_dir.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{model_dir}: has no *.safetensors file with the model's weights.")
    weight_files.check(model_dir, paths)
    return paths


def weights_sha256(model_dir: Path) -> str:
    """One SHA-256 over the model's safetensors files, in the order of their names."""
    return weight_files.sha256(sorted(weights(model_dir)))
