"""Tiny random models with real longrope configurations, and their factor files.

The weights are drawn wide, so that attention is peaked and a wrong rotation changes the tokens:
with the usual narrow ones a test could not tell the sets apart.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from longrope_factors.factor_file import hf
from longrope_factors.factor_file.schema import (
    FORMAT,
    FactorFile,
    FactorSet,
    ModelIdentity,
    Provenance,
    save,
)
from longrope_server.serve.embedded import model_directory
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 512
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": False,
}
PROVENANCE = Provenance(
    method="longrope", source="drawn at random for a test", date="2026-11-23", tool_version="0"
)


@dataclass(frozen=True)
class TinyModel:
    """A model directory and the factor file that its configuration names."""

    directory: Path
    factor_file: FactorFile

    @property
    def limits(self) -> list[int]:
        return [s.max_length for s in self.factor_file.sets]


def random_factor_file(
    rotary_dim: int,
    limits: list[int],
    *,
    architecture: str = "LlamaForCausalLM",
    theta: float = 10000.0,
    start_tokens: int = 4,
    seed: int = 0,
) -> FactorFile:
    """Sets far from one another, the first one too far from 1 to be mistaken for plain RoPE."""
    generator = np.random.default_rng(seed)
    sets = tuple(
        FactorSet(
            max_length=limit,
            factors=tuple(np.sort(1 + generator.random(rotary_dim // 2) * 3 * (i + 1)).tolist()),
            start_tokens=start_tokens * i,
            attention_factor=1.0 + 0.1 * i,
            provenance=PROVENANCE,
        )
        for i, limit in enumerate(limits)
    )
    identity = ModelIdentity(
        name="tiny",
        architecture=architecture,
        rotary_dim=rotary_dim,
        rope_theta=theta,
        original_max_position_embeddings=limits[0],
    )
    return FactorFile(format=FORMAT, model=identity, sets=sets)


def tiny_model(
    directory: Path,
    model_type: str = "llama",
    limits: tuple[int, ...] = (64, 128, 256),
    dtype: torch.dtype = torch.float32,
    partial_rotary_factor: float = 1.0,
    seed: int = 0,
    two_lists: bool = False,
    architecture: str | None = None,
    **config_fields: Any,
) -> TinyModel:
    """Writes a two-layer model with random weights and a factor file beside its config.

    architecture: what the published config calls it, where that is not transformers' class.
    two_lists: the config alone says everything, as Hugging Face's do: no factor file.
    """
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = AutoConfig.for_model(model_type, **{**SIZES, **special, **config_fields})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    draw_wide(model)
    model.save_pretrained(directory)
    architecture = architecture or type(model).__name__
    factor_file = random_factor_file(
        int(SIZES["head_dim"] * partial_rotary_factor),
        list(limits),
        architecture=architecture,
        seed=seed,
    )
    path = directory / "longrope_factors.json"
    save(factor_file, path)
    saved = AutoConfig.from_pretrained(directory)
    saved.update(hf.hf_overrides(factor_file, path))
    saved.rope_parameters["partial_rotary_factor"] = partial_rotary_factor
    saved.longrope_factors = path.name
    if two_lists:
        del saved.longrope_factors
        path.unlink()
    saved.architectures = [architecture]
    saved.save_pretrained(directory)
    if two_lists:
        factor_file = hf.from_config(saved.to_dict())
    return TinyModel(directory, factor_file)


def draw_wide(model: torch.nn.Module) -> None:
    """Draws the weights of a model with that spread."""
    # Wide embeddings that are the output's as well would say their own token again and again.
    of_embeddings = 0.02 if model.config.tie_word_embeddings else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                std = of_embeddings if "embed" in name else parameter.shape[1] ** -0.5 * 1.5
                parameter.normal_(std=std)


def give_words(model: TinyModel) -> TinyModel:
    """Puts SmolLM2's tokenizer and chat template beside a model of its vocabulary."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (model.directory / name).write_bytes((model_directory() / name).read_bytes())
    return model


def give_bytes(model: TinyModel) -> TinyModel:
    """Puts a tokenizer of single bytes beside a tiny model, so that its tokens are text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<bos>", "<eos>", "<pad>", *alphabet]
    words += [f"<{index}>" for index in range(len(words), VOCABULARY)]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    ).save_pretrained(model.directory)
    return model
