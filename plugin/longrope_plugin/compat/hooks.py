"""The parts of vLLM's engine that we replace or call.

Each touch stands beside its use, with what breaks without it and when it can go.
"""

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch

from longrope_plugin.compat.touch import (
    PUBLIC_POSITIONS,
    PUBLIC_SCHEDULER,
    Touch,
    replace,
    resolve,
)

_CONFIGURATION = Touch(
    "vllm.config.vllm",
    "VllmConfig.try_verify_and_update_config",
    "nothing tells us that a longrope model is being configured",
    "vLLM has a configuration hook for plug-ins that is not keyed by architecture",
)


def hook_configuration(configure: Callable[[Any], None]) -> None:
    """Makes every VllmConfig call `configure` after vLLM's own per-model hook."""

    def asking(original: Any) -> Any:
        def try_verify_and_update_config(vllm_config: Any) -> None:
            model_config = vllm_config.model_config
            is_first_call = model_config is not None and not model_config.config_updated
            original(vllm_config)
            if is_first_call:
                configure(vllm_config)

        return try_verify_and_update_config

    replace(_CONFIGURATION, asking)


_INPUTS = Touch(
    "vllm.v1.engine.input_processor",
    "InputProcessor.process_inputs",
    "a caller's adapter would give way to a set's in silence, and blocks of another set be read",
    PUBLIC_SCHEDULER,
)


_FRONT_END = Touch(
    "vllm.v1.engine.input_processor",
    "InputProcessor.__init__:vllm_config",
    "a front end does not know its engine's sets",
    PUBLIC_SCHEDULER,
)


def check_arrivals(read: Callable[[Any], Any], check: Callable[[Any, Any], None]) -> None:
    """Makes an engine's front end call `read` when it starts, and `check` for each request.

    read: takes the VllmConfig. check: takes what `read` returned, and the request. The client gets
    the ValueError that it raises.
    """

    def reading(original: Any) -> Any:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.longrope_served = read(self.vllm_config)

        return init

    replace(_FRONT_END, reading)

    def checking(original: Any) -> Any:
        def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
            request = original(self, *args, **kwargs)
            try:
                # An engine that started before this hook was set is without longrope.
                check(getattr(self, "longrope_served", None), request)
            except ValueError as error:  # some of vLLM's routes answer it with 500
                from vllm.exceptions import VLLMValidationError

                raise VLLMValidationError(str(error)) from None
            return request

        return process_inputs

    replace(_INPUTS, checking)


_PUNICA_WRAPPER = Touch(
    "vllm.platforms.cpu",
    "CpuPlatform.get_punica_wrapper",
    "adapters are slow on a CPU",
    "vLLM applies adapters on a CPU by runs of tokens",
)


def use_punica_wrapper(name: str) -> None:
    """Makes vLLM use the class with this dotted name for the adapters of tokens on a CPU."""
    from vllm.platforms import current_platform

    resolve(_PUNICA_WRAPPER)
    type(current_platform).get_punica_wrapper = classmethod(lambda cls: name)


_PLATFORM_CONFIGURATION = Touch(
    "vllm.platforms.cpu",
    "CpuPlatform.check_and_update_config",
    "a model with adapters is not compiled on a CPU",
    "vLLM compiles models with adapters on a CPU",
)


def compile_with(lora_config: Any) -> None:
    """Lets vLLM compile a model on a CPU if all its adapters are those of `lora_config`.

    vLLM's own way of applying adapters on a CPU cannot be compiled, so vLLM compiles nothing there.
    Ours can be compiled.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    lora_config.longrope = True
    original = resolve(_PLATFORM_CONFIGURATION)
    if hasattr(original, "longrope"):
        return

    @functools.wraps(original)
    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        theirs = vllm_config.lora_config
        if hasattr(theirs, "longrope"):
            vllm_config.lora_config = None
        original(vllm_config)
        vllm_config.lora_config = theirs

    check_and_update_config.longrope = True  # type: ignore[attr-defined]
    type(current_platform).check_and_update_config = classmethod(check_and_update_config)


_COMPILED = Touch(
    "vllm.compilation.wrapper",
    "TorchCompileWithNoGuardsWrapper",
    "on a CPU, requests without an adapter wait for the adapters of others",
    "vLLM applies adapters on a CPU by runs of tokens",
)


def compile_without_adapters(module: torch.nn.Module, vllm_config: Any) -> None:
    """Makes vLLM compile `module`, a copy of one that it may compile, without LoRA and anew."""
    compiled = resolve(_COMPILED)
    if not isinstance(module, compiled) or module.do_not_compile:
        return
    from vllm.config import set_current_vllm_config

    module.vllm_config = copy.copy(vllm_config)  # compiled code is cached by its hash
    module.vllm_config.lora_config = None
    with set_current_vllm_config(module.vllm_config):
        compiled.__init__(module, module._compile_prefix, module._is_encoder)


def platform_worker() -> type:
    """The worker class that vLLM would have used on this machine's platform."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        module, name = "vllm.v1.worker.cpu_worker", "CPUWorker"
    elif current_platform.is_xpu():
        module, name = "vllm.v1.worker.xpu_worker", "XPUWorker"
    else:
        module, name = "vllm.v1.worker.gpu_worker", "Worker"
    return resolve(Touch(module, name, "no worker", "worker_cls takes a mix-in"))


_ROTARY_MODULE = Touch(
    "vllm.model_executor.layers.rotary_embedding",
    "Phi3LongRoPEScaledRotaryEmbedding",
    "the engine-wide choice of short or long stays",
    PUBLIC_POSITIONS,
)
_ROPE_CACHE = Touch(
    "vllm.model_executor.layers.rotary_embedding",
    "_ROPE_DICT",
    "a second engine in one process could get the first one's factor sets",
    "the cache's key covers everything the layer is built from",
)


def replace_rotary_embedding(make: Callable[..., torch.nn.Module]) -> None:
    """Puts `make` where `get_rope` looks for the class of `rope_type: longrope`."""
    resolve(_ROTARY_MODULE)
    resolve(_ROPE_CACHE).clear()
    module = importlib.import_module(_ROTARY_MODULE.module)
    setattr(module, _ROTARY_MODULE.name, make)


_ACTIVE_ADAPTERS = Touch(
    "vllm.v1.worker.lora_model_runner_mixin",
    "LoRAModelRunnerMixin._set_active_loras",
    "no start with LoRA",
    PUBLIC_POSITIONS,
)
_FORWARD_CONTEXT = Touch(
    "vllm.forward_context",
    "set_forward_context",
    "a model that reads positions beside its longrope layers is not noticed",
    PUBLIC_POSITIONS,
)


def run_model(runner: Any, tokens: torch.Tensor, positions: torch.Tensor) -> None:
    """Runs one uncompiled forward pass without attention. tokens, positions: int64 [n]."""
    from vllm.distributed import get_pp_group

    vllm_config, model = runner.vllm_config, runner.get_model()
    received = None
    if not get_pp_group().is_first_rank:
        received = model.make_empty_intermediate_tensors(
            len(tokens), vllm_config.model_config.dtype, tokens.device
        )
    if vllm_config.lora_config is not None:  # its layers ask for the tokens' adapters
        resolve(_ACTIVE_ADAPTERS)(runner, (0,), (0,) * len(tokens), set())
    context = resolve(_FORWARD_CONTEXT)(
        None, vllm_config, num_tokens=len(tokens), skip_compiled=True
    )
    with context, torch.inference_mode():
        model(
            input_ids=tokens,
            positions=positions,
            intermediate_tensors=received,
            inputs_embeds=None,
        )


_ROTARY_KERNEL = Touch(
    "vllm._custom_ops",
    "rotary_embedding",
    "no fused rotation on a CPU",
    "our own kernel covers CPUs",
)


@functools.cache
def _rotary_kernel() -> Callable[..., None]:
    return resolve(_ROTARY_KERNEL)


def rotate_by_table(
    rows: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor | None,
    head_size: int,
    cos_sin: torch.Tensor,
    is_neox_style: bool,
) -> None:
    """vLLM's fused rotation, in place. rows: int64 [n]; cos_sin: [rows, rotary_dim]."""
    _rotary_kernel()(rows, query, key, head_size, cos_sin, is_neox_style)


PREFILL_PROGRESS = "longrope_prefill_progress"

_ENGINE_CORE = Touch(
    "vllm.v1.engine.core",
    "EngineCore",
    "no prefill progress",
    "vLLM's front end knows how far a prefill is",
)


def add_prefill_progress() -> None:
    """Adds a method to the engine that tells how far prompts are computed.

    To be called in the engine's process.
    """
    engine_core = resolve(_ENGINE_CORE)

    def prefill_progress(self: Any, request_ids: list[str]) -> dict[str, int]:
        requests = self.scheduler.requests
        return {
            request_id: requests[request_id].num_computed_tokens
            for request_id in request_ids
            if request_id in requests
        }

    setattr(engine_core, PREFILL_PROGRESS, prefill_progress)


TOUCHES = (
    _CONFIGURATION,
    _INPUTS,
    _FRONT_END,
    _PUNICA_WRAPPER,
    _PLATFORM_CONFIGURATION,
    _COMPILED,
    _ROTARY_MODULE,
    _ROPE_CACHE,
    _ACTIVE_ADAPTERS,
    _FORWARD_CONTEXT,
    _ROTARY_KERNEL,
    _ENGINE_CORE,
)
