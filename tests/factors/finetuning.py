"""A tiny model with words, texts and factors to fine-tune it with."""

import random
from pathlib import Path
from typing import Any

import torch
from longrope_factors.factor_file import methods, model_directory, schema
from longrope_factors.finetuning.settings import Settings
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.factors.examples import llama_config

ORIGINAL = 32
LENGTH = 64
WORDS = [f"w{number}" for number in range(100)]
# Settings of a run that trains, and writes, all that there is beside the weights.
EVERYTHING: dict[str, Any] = {
    "lora": 4,
    "merge": True,
    "norms": True,
    "embeddings": True,
    "mixed": 0.3,
}


def tiny_model(directory: Path, **changes: Any) -> Path:
    """A float32 Llama of two layers, window ORIGINAL, whose tokenizer knows WORDS."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **llama_config(
            hidden_size=32,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=ORIGINAL,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            **changes,
        )
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                # Wide, so that a wrong rotation shows.
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    model.save_pretrained(directory)
    vocabulary = {word: place for place, word in enumerate(["<unk>", "<end>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>"
    ).save_pretrained(directory)
    return directory


def text(path: Path, *lengths: int, seed: int = 0) -> Path:
    """Documents of so many words, with an empty line between them."""
    generator = random.Random(seed)
    path.write_text(
        "\n\n".join(" ".join(generator.choices(WORDS[:20], k=length)) for length in lengths)
    )
    return path


def settings(folder: Path, **changes: Any) -> Settings:
    """A run of four steps on two texts; makes the files that are not there."""
    model = folder / "model"
    if not model.exists():
        tiny_model(model)
        identity = model_directory.identity_of(model)
        sets = [methods.factor_set("original", identity, ORIGINAL)]
        sets.append(methods.factor_set("ntk", identity, 2 * LENGTH))
        schema.save(schema.build(identity, sets), folder / "given.json")
        text(folder / "a.txt", 300)
        text(folder / "b.txt", 20, 150, 45, 10, seed=1)
    return Settings(
        **{
            "model": model,
            "factors": folder / "given.json",
            "length": LENGTH,
            "corpus": (folder / "a.txt", folder / "b.txt"),
            "output": folder / "tuned",
            "steps": 4,
            "learning_rate": 1e-3,
            "warmup": 2,
            "batch": 4,
            "separator": "\n\n",
            "dtype": "float32",
            "checkpoint_every": 2,
            **changes,
        }
    )


def replace(settings: Settings, **changes: Any) -> Settings:
    """The settings with `changes`, checked again."""
    return Settings.model_validate(settings.given | changes)
