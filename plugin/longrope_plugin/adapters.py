"""Factor sets with an adapter: the LoRA weights that requests of a set run with."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from longrope_factors.factor_file.adapters import adapter

from longrope_plugin.compat import hooks
from longrope_plugin.selection import Selection

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest

# vLLM numbers the adapters that callers name from 1 on, in 32 bits.
FIRST_ID = 2**30


def requests(selection: Selection) -> "tuple[LoRARequest | None, ...]":
    """For each set what vLLM loads its adapter by; None for a set without one."""
    from vllm.lora.request import LoRARequest

    return tuple(
        None
        if factor_set.adapter is None
        else LoRARequest(
            lora_name=f"longrope-{factor_set.fingerprint}",
            lora_int_id=FIRST_ID + index,
            lora_path=str(adapter.folder(factor_set.adapter, _path(selection))),
        )
        for index, factor_set in enumerate(selection.factor_file.sets)
    )


def _path(selection: Selection) -> Path:
    assert selection.path is not None, "a config's two lists name no adapter"
    return selection.path


def configure(vllm_config: "VllmConfig", selection: Selection) -> None:
    """Makes room in the engine for the adapters of all sets, beside those of callers.

    Raises FactorFileError or ValueError, a sentence, for an adapter that cannot be served.
    """
    adapters = [each.adapter for each in selection.factor_file.sets if each.adapter is not None]
    if not adapters:
        return
    model = Path(vllm_config.model_config.model)
    adapter.check(selection.factor_file, _path(selection), model if model.is_dir() else None)
    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.platforms import current_platform

    rank = min(each for each in get_args(MaxLoRARanks) if each >= max(a.rank for a in adapters))
    targets = {name for each in adapters for name in adapter.targets(each, _path(selection))}
    # Up to vLLM 0.32 base tokens on a CPU get the last slot's weights if no slot is free (#48421).
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


def check_callers(input_processor: Any, request: Any) -> None:
    """Raises ValueError, a sentence, for a caller's adapter where the request's set has its own."""
    if not hasattr(input_processor, "longrope_selection"):  # reads the factor file
        selection = Selection.from_vllm_config(input_processor.vllm_config)
        input_processor.longrope_selection = selection
    if (selection := input_processor.longrope_selection) is None:
        return
    prompt = request.prompt_token_ids
    prompt_tokens = len(request.prompt_embeds if prompt is None else prompt)
    sampling = request.sampling_params
    max_tokens = sampling.max_tokens if sampling is not None else 0
    refuse_callers_adapter(selection, prompt_tokens, max_tokens, request.resumable)


def refuse_callers_adapter(
    selection: Selection, prompt_tokens: int, max_tokens: int | None, is_session: bool
) -> None:
    """Raises ValueError, a sentence, where a request with an adapter of its caller's meets a set's.

    A request runs with one adapter. max_tokens: None for as many as there is room for.
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
