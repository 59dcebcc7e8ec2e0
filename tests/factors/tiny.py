"""Tiny random Llamas on disk with real tokenizers, small enough for a CPU."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.factors.examples import llama_config

TRAINED_ON = (
    "There is an important info hidden inside irrelevant text. Memorize the pass key 0123456789. "
    "What is the grass, the sky, the sun? Here we go. There and back again. I will quiz you about "
    "information. Remember it."
)


def letters() -> PreTrainedTokenizerFast:
    """Each of a to h is a token; anything else is an a."""
    tokenizer = Tokenizer(models.WordLevel({letter: n for n, letter in enumerate("abcdefgh")}, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_level() -> PreTrainedTokenizerFast:
    """Each byte is a token: GPT-2's and SmolLM2's way without merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: n for n, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def metaspace() -> PreTrainedTokenizerFast:
    """LLaMA's way: spaces as a letter, one before the text, and a start token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([TRAINED_ON], trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def ending() -> PreTrainedTokenizerFast:
    """Like `metaspace`, but with a token after each text too: LLaMA's way with add_eos_token."""
    tokenizer = metaspace()
    tokenizer.add_special_tokens({"eos_token": "</s>"})
    special = [("<s>", 1), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=special
    )
    return tokenizer


def save(path: Path, tokenizer: PreTrainedTokenizerFast, **config: Any) -> Path:
    """A random Llama with an original length of 64 tokens, and its tokenizer, in a new folder."""
    torch.manual_seed(0)
    small = {"hidden_size": 64, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64}
    changed = {"max_position_embeddings": 64, "vocab_size": 256, **small, **config}
    model = LlamaForCausalLM(LlamaConfig(**llama_config(**changed)))
    model.to(torch.bfloat16).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
