"""Load the model in a model directory, together with its identity."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import ModelIdentity


@dataclass(frozen=True)
class LoadedModel:
    """A Hugging Face causal language model in evaluation mode, and its identity."""

    model: Any
    identity: ModelIdentity
    directory: Path

    @property
    def weights_sha256(self) -> str:
        """The hash of the weights in `directory`, from `model_directory.weights_sha256`."""
        return model_directory.weights_sha256(self.directory)

    @property
    def tokenizer_sha256(self) -> str:
        """The hash of the tokenizer in `directory`, from `model_directory.tokenizer_sha256`."""
        return model_directory.tokenizer_sha256(self.directory)

    @property
    def dtype(self) -> str:
        """The name of the dtype that the model computes in, such as bfloat16."""
        return str(self.model.dtype).removeprefix("torch.")


def config_of(model_dir: Path) -> Any:
    """transformers' configuration of the model; raises UsageError if transformers has none."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model_dir)
    except ValueError as error:
        raise UsageError(
            f"{model_dir / 'config.json'}: transformers cannot read it: {reason(error)}."
        ) from error


def reason(error: Exception) -> str:
    """The first line of a library's error, for a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".: ")


def load(model_dir: Path, device: str | None = None, dtype: str = "bfloat16") -> LoadedModel:
    """Load the model in `model_dir` with PyTorch's SDPA as its attention.

    If `device` is None, it is loaded on a GPU if there is one. Raises UsageError if safetensors
    weights are missing or cannot be read, and FactorFileError if the config has no rotary
    embedding.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    identity = model_directory.identity_of(model_dir)
    model_directory.weights(model_dir)
    config_of(model_dir)
    try:
        model, loading_info = AutoModelForCausalLM.from_pretrained(
            model_dir,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except (SafetensorError, ValueError) as error:
        raise UsageError(
            f"{model_dir}: cannot be loaded as a causal language model: {reason(error)}."
        ) from error
    if missing := sorted(loading_info["missing_keys"]):
        raise UsageError(
            f"{model_dir}: has no weights for {len(missing)} of the model's tensors, such as "
            f"{missing[0]}, which would be random numbers."
        )
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return LoadedModel(model, identity, model_dir)
