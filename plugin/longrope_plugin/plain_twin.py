"""A step of which no token has an adapter, on a CPU: it runs as in an engine without adapters.

Even an adapter that no token has costs a call for each linear layer, a tenth of a small model's
decode step. So there is a second tree of modules without those calls, which vLLM compiles as well.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from vllm.config import CompilationMode

from longrope_plugin.compat.hooks import compile_without_adapters
from longrope_plugin.compat.names import BaseLayerWithLoRA, get_forward_context


def run_plain_steps(
    model: torch.nn.Module, vllm_config: Any, has_adapters: Callable[[], bool]
) -> None:
    """Makes `model` run on its plain twin whenever `has_adapters()` is False.

    The first pass that may be compiled, a warm-up of vLLM's, compiles both.
    """
    adapted = model.forward
    plain = _twin(model, vllm_config, {}).forward
    # Uncompiled, vLLM runs no warm-up: the first pass is a request's.
    is_warm = vllm_config.compilation_config.mode == CompilationMode.NONE

    @functools.wraps(adapted)
    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal is_warm
        run, other = (adapted, plain) if has_adapters() else (plain, adapted)
        if not is_warm and not get_forward_context().skip_compiled:
            is_warm = True
            other(*args, **kwargs)
        return run(*args, **kwargs)

    model.forward = forward


def _twin(
    module: torch.nn.Module, vllm_config: Any, twins: dict[torch.nn.Module, torch.nn.Module]
) -> torch.nn.Module:
    """`module` without adapters; parts that have none, and all weights, are the same objects."""
    if isinstance(module, BaseLayerWithLoRA):
        return module.base_layer
    if module in twins:
        return twins[module]
    children = {
        name: child and _twin(child, vllm_config, twins) for name, child in module._modules.items()
    }
    twins[module] = twin = module
    if any(children[name] is not child for name, child in module._modules.items()):
        twins[module] = twin = copy.copy(module)
        twin._modules = children
        compile_without_adapters(twin, vllm_config)
    return twin
