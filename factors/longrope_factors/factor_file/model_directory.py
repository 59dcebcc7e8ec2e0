"""A Hugging Face model directory: the model's identity, its weight files and its tokenizer's."""

from pathlib import Path

from longrope_factors.factor_file import hf, weight_files
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import ModelIdentity

# What transformers reads; a model has some of them.
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"),
)


def base_of(model_dir: Path, name: str | None = None) -> Base:
    """The model in `model_dir` as it ships, named after its folder unless `name` is given."""
    return hf.base(hf.read_config(model_dir), name or model_dir.resolve().name, model_dir)


def identity_of(model_dir: Path, name: str | None = None) -> ModelIdentity:
    """The identity of the model in `model_dir`, named after its folder unless `name` is given."""
    return hf.model_identity(hf.read_config(model_dir), name or model_dir.resolve().name)


def weights(model_dir: Path) -> list[Path]:
    """The safetensors files of a model directory, in no particular order.

    Raises UsageError if there are none or some are missing.
    """
    paths = list(model_dir.glob("*.safetensors"))
    if not paths:
        raise UsageError(f"{model_dir}: has no *.safetensors file with the model's weights.")
    weight_files.check(model_dir, paths)
    return paths


def weights_sha256(model_dir: Path) -> str:
    """One SHA-256 over the model's safetensors files, in the order of their names."""
    return weight_files.sha256(sorted(weights(model_dir)))


def tokenizer_sha256(model_dir: Path) -> str:
    """One SHA-256 over the files of the model's tokenizer that are there."""
    paths = [model_dir / name for name in _TOKENIZER]
    return weight_files.sha256([path for path in paths if path.is_file()])
