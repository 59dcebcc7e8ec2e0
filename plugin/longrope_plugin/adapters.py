"""Adapters of factor sets: the LoRA weights that the requests of a set run with."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from longrope_factors.factor_file import hub
from longrope_factors.factor_file.adapters import adapter_files

from longrope_plugin.compat import hooks
from longrope_plugin.selection import Selection

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest

# vLLM gives the adapters that callers name the ids 1, 2 and so on, in 32 bits. Ours start far
# above.
FIRST_ID = 2**30

FOR_THESE_WEIGHTS = (
    "the factor sets have adapters, which are right only for the weights that the engine starts "
    "with: serve other weights with an engine and a factor file of their own."
)

# vLLM 0.24 applies adapters to merged layers in a way that ours for CPUs lack.
FIRST_ON_A_CPU = (0, 28)


def requests(selection: Selection) -> "tuple[LoRARequest | None, ...]":
    """For each set, the request that makes vLLM load its adapter; None for a set without one."""
    from vllm.lora.request import LoRARequest

    return tuple(
        None
        if factor_set.adapter is None
        else LoRARequest(
            lora_name=f"longrope-{factor_set.fingerprint}",
            lora_int_id=FIRST_ID + index,
            lora_path=str(adapter_files.folder(factor_set.adapter, _path(selection))),
        )
        for index, factor_set in enumerate(selection.factor_file.sets)
    )


def _path(selection: Selection) -> Path:
    assert selection.path is not None, "a config's two lists name no adapter"
    return selection.path


def configure(vllm_config: "VllmConfig", selection: Selection) -> None:
    """Makes room in the engine for the adapters of all sets, in addition to those of callers.

    Raises FactorFileError or ValueError, a sentence, for an adapter that cannot be served.
    """
    sets = selection.factor_file.sets
    adapters = [factor_set.adapter for factor_set in sets if factor_set.adapter is not None]
    if not adapters:
        return
    if getattr(vllm_config, "weight_transfer_config", None) is not None:
        raise ValueError(f"--weight-transfer-config is given, but {FOR_THESE_WEIGHTS}")
    model_config, load_config = vllm_config.model_config, vllm_config.load_config
    weights = hub.weights_dir(model_config.model, model_config.revision, load_config.download_dir)
    adapter_files.check(selection.factor_file, _path(selection), weights)
    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        _check_on_a_cpu()
    else:
        _check_on_a_gpu(vllm_config)
    highest_rank = max(set_adapter.rank for set_adapter in adapters)
    rank = min(allowed for allowed in get_args(MaxLoRARanks) if allowed >= highest_rank)
    targets = {
        name
        for set_adapter in adapters
        for name in adapter_files.targets(set_adapter, _path(selection))
    }
    # One more slot on a CPU: up to vLLM 0.32, if no slot is free, tokens without an adapter get the
    # last slot's weights (vllm #48421).
    slots = len(adapters) + current_platform.is_cpu()
    theirs = vllm_config.lora_config
    if theirs is None:
        vllm_config.lora_config = LoRAConfig(
            max_lora_rank=rank, max_loras=slots, target_modules=sorted(targets)
        )
        hooks.compile_with(vllm_config.lora_config)
        return
    if vllm_config.speculative_config is not None and vllm_config.use_v2_model_runner:
        raise ValueError(
            "With --enable-lora Model Runner V2 is not known to tell the adapters of drafts apart: "
            "serve factor sets with adapters without --speculative-config or without "
            "--enable-lora, or with VLLM_USE_V2_MODEL_RUNNER=0."
        )
    if theirs.target_modules is not None:
        raise ValueError(
            f"--lora-target-modules is {' '.join(theirs.target_modules)}, but the factor sets have "
            "adapters of their own: leave it unset."
        )
    theirs.max_lora_rank = max(theirs.max_lora_rank, rank)
    theirs.max_loras += slots
    theirs.max_cpu_loras = (theirs.max_cpu_loras or 0) + slots


def _check_on_a_cpu() -> None:
    """Raises ValueError, a sentence, where the first token would end the engine."""
    import vllm

    if vllm.__version_tuple__[:2] < FIRST_ON_A_CPU:
        raise ValueError(
            f"The factor sets have adapters, which the plug-in cannot apply on a CPU with vLLM "
            f"{vllm.__version__}: serve with vLLM {'.'.join(map(str, FIRST_ON_A_CPU))} or later."
        )


def _check_on_a_gpu(vllm_config: "VllmConfig") -> None:
    """Raises ValueError, a sentence, where a GPU gives wrong tokens, or stops at the first one."""
    if vllm_config.model_config.dtype == torch.float32:
        raise ValueError(
            "The factor sets have adapters, for which vLLM's kernels on a GPU take 16 bits, and "
            "the dtype is float32: serve with --dtype bfloat16 or float16."
        )
    # Seen with vLLM 0.24 on an H200 whenever a batch had several requests; why is not known yet.
    if not vllm_config.use_v2_model_runner:
        raise ValueError(
            "The factor sets have adapters, and Model Runner V1 has given wrong tokens with them "
            "on a GPU: serve with VLLM_USE_V2_MODEL_RUNNER=1."
        )


def refuse_callers_adapter(
    selection: Selection, prompt_tokens: int, max_tokens: int | None, is_session: bool
) -> None:
    """Raises ValueError, a sentence, if a request names an adapter but may reach a set with one.

    A request runs with one adapter only. max_tokens: None for as many as there is room for.
    """
    index = selection.adapted(prompt_tokens, max_tokens, is_session)
    if index is None:
        return
    below = max((s.max_length for s in selection.factor_file.sets[:index]), default=0)
    advice = f"keep prompt and max_tokens within {below} tokens" if below else "leave it out"
    raise ValueError(
        f"The request names a LoRA adapter, but the factor set of "
        f"{selection.limit(index)} tokens that it may come to has one of its own: {advice}."
    )
