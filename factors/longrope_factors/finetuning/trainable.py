"""The weights that are trained: all, or a LoRA adapter with or without norms and embeddings."""

from pathlib import Path
from typing import Any

import torch

from longrope_factors.finetuning.settings import Settings

SCALE = 2.0  # lora_alpha over rank: LongLoRA's 16 over 8


def prepare(model: Any, settings: Settings) -> Any:
    """Mark the trained weights, and convert them to float32; returns the PeftModel or `model`.

    Works in place. With `settings.lora`, every linear layer but the output head gets LoRA matrices
    of that rank, initialised with torch's random numbers. `norms` and `embeddings` are trained
    whole (LongLoRA, arXiv 2309.12307, section 3.3); embeddings stay tied to the head if the model
    ties them.
    """
    if settings.lora is None:
        return model.float().requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    inputs = model.get_input_embeddings()
    whole = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if (settings.norms and type(module).__name__.endswith("Norm"))
        or (settings.embeddings and module is inputs)
    }
    tied = bool(model.config.get_text_config().tie_word_embeddings)
    config = LoraConfig(
        r=settings.lora,
        lora_alpha=int(SCALE * settings.lora),
        target_modules="all-linear",
        modules_to_save=sorted(whole) or None,
        ensure_weight_tying=settings.embeddings and tied,
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, config)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return peft_model


def start(peft_model: Any, folder: Path) -> None:
    """Load the adapter in `folder`, which must have the same form, into `prepare`'s PeftModel."""
    from peft import load_peft_weights, set_peft_model_state_dict

    result = set_peft_model_state_dict(peft_model, load_peft_weights(str(folder), device="cpu"))
    assert not result.unexpected_keys, result.unexpected_keys
