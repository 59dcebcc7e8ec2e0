"""What of a model is trained: everything, or LoRA adapters with norms and embeddings."""

from typing import Any

import torch

_ALPHA = 2  # lora_alpha over rank: LongLoRA's 16 over 8


def prepare(model: Any, rank: int | None, embeddings: bool) -> Any:
    """Mark and convert in place what is trained, float32 each; gives the PeftModel, or `model`.

    With a rank, every linear layer but the output head gets an adapter, and norms (and with
    `embeddings` those too, tied to the head where the model ties them) are trained whole: LongLoRA,
    arXiv 2309.12307, section 3.3. Adapters start from torch's random numbers.
    """
    if rank is None:
        return model.float().requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    inputs = model.get_input_embeddings()
    whole = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm") or (embeddings and module is inputs)
    }
    tied = bool(model.config.get_text_config().tie_word_embeddings)
    config = LoraConfig(
        r=rank,
        lora_alpha=_ALPHA * rank,
        target_modules="all-linear",
        modules_to_save=sorted(whole),
        ensure_weight_tying=embeddings and tied,
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, config)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return peft_model
