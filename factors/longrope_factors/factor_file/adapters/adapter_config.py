"""peft's adapter_config.json: whether vLLM serves an adapter as it was trained."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import bounds
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files import strict_json
from longrope_factors.factor_file.files.strict_json import shown

# Fields that vLLM's PEFTHelper (lora/peft_helper.py) refuses, or ignores although they change the
# results.
_REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules that were trained whole, such as norms and embeddings",
    "trainable_token_indices": "embeddings that were trained",
    "target_parameters": "parameters outside of linear layers",
    "lora_bias": "biases",
    "layer_replication": "replicated layers",
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "routing by Arrow",
    "kasa_config": "KaSA",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    # vLLM serves these from 0.32 on, but the plug-in also runs with older releases.
    "rank_pattern": "modules of different ranks in every release",
    "alpha_pattern": "modules of different lora_alpha in every release",
}
# The initialisations that leave the base model's weights alone.
_INITIALISATIONS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


@dataclass(frozen=True)
class Form:
    """The rank of an adapter's matrices, and the number that multiplies their product."""

    rank: int
    scale: float


def read(path: Path) -> Form:
    """Read rank and scale from an adapter_config.json.

    Raises FactorFileError, naming the file and the field, for an adapter that vLLM does not serve.
    """
    config = strict_json.read(path)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise FactorFileError(
            f'{path}: has peft_type {shown(kind)}; it should be "LORA", as peft writes it.'
        )
    for field, what in _REFUSED.items():
        if config.get(field):
            raise FactorFileError(
                f"{path}: has {field} {shown(config[field])}, but vLLM does not serve {what}."
            )
    if (bias := config.get("bias", "none")) != "none":
        raise FactorFileError(f"{path}: has bias {shown(bias)}, but vLLM does not serve biases.")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower() not in _INITIALISATIONS:
        raise FactorFileError(
            f"{path}: has init_lora_weights {shown(start)}, which changes the base model's weights "
            "too: save it as a plain adapter (path_initial_model_for_weight_conversion in peft)."
        )
    if "target_modules" not in config:
        raise FactorFileError(f"{path}: has no target_modules, which vLLM asks for.")
    alpha, rank = config.get("lora_alpha"), config.get("r")
    if not _is_finite(alpha):
        raise FactorFileError(
            f"{path}: has lora_alpha {shown(alpha)}; it should be a finite number."
        )
    if type(rank) is not int or not 1 <= rank <= bounds.RANK:
        raise FactorFileError(
            f"{path}: has r {shown(rank)}; it should be a rank from 1 to {bounds.RANK}, the "
            "greatest that vLLM serves."
        )
    return Form(rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
