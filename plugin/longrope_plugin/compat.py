"""Every touch of vLLM's private names: what breaks without it, and when it can go.

Names are resolved on use (`from longrope_plugin.compat import Scheduler` works), because
`longrope_plugin.register` must be cheap. `check` resolves them all; it runs before a longrope
model loads, so that a renamed one is a sentence at start-up and never a wrong answer.
"""

import asyncio
import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

KNOWN_TO_WORK = "0.24 to 0.33"
FRONT_END_KNOWN_TO_WORK = "0.31 to 0.33"


@dataclass(frozen=True)
class Touch:
    """A name of vLLM's that is not public.

    name: dotted, from the module; after a colon, an attribute that the function must set or use.
    why: what breaks without it. until: when the touch can go.
    """

    module: str
    name: str
    why: str
    until: str


_PUBLIC_SCHEDULER = "vLLM's scheduler has a hook for per-request state"
_PUBLIC_POSITIONS = "vLLM lets a plug-in choose the rotation of each request (PR #39745)"
_PUBLIC_PACING = "vLLM bounds the time of a step itself"
_CORE = "vllm.v1.core.sched"
_WORKER = "vllm.v1.worker"

TOUCHES: dict[str, Touch] = {
    "VllmConfig": Touch(
        "vllm.config.vllm",
        "VllmConfig.try_verify_and_update_config",
        "nothing tells us that a longrope model is being configured",
        "vLLM has a configuration hook for plug-ins that is not keyed by architecture",
    ),
    "current_vllm_config": Touch(
        "vllm.config",
        "get_current_vllm_config",
        "the rotary layer does not know its model's factor file",
        "get_rope passes unknown rope_parameters on",
    ),
    "rotary_module": Touch(
        "vllm.model_executor.layers.rotary_embedding",
        "Phi3LongRoPEScaledRotaryEmbedding",
        "the engine-wide choice of short or long stays",
        _PUBLIC_POSITIONS,
    ),
    "rope_cache": Touch(
        "vllm.model_executor.layers.rotary_embedding",
        "_ROPE_DICT",
        "a second engine in one process could get the first one's factor sets",
        "the cache's key covers everything the layer is built from",
    ),
    "set_forward_context": Touch(
        "vllm.forward_context",
        "set_forward_context",
        "a model that reads positions beside its longrope layers is not noticed",
        _PUBLIC_POSITIONS,
    ),
    "set_active_loras": Touch(
        _WORKER + ".lora_model_runner_mixin",
        "LoRAModelRunnerMixin._set_active_loras",
        "no start with LoRA",
        _PUBLIC_POSITIONS,
    ),
    "process_inputs": Touch(
        "vllm.v1.engine.input_processor",
        "InputProcessor.process_inputs",
        "a caller's adapter would give way to a set's in silence",
        _PUBLIC_SCHEDULER,
    ),
    "punica_wrapper": Touch(
        "vllm.platforms.cpu",
        "CpuPlatform.get_punica_wrapper",
        "adapters are slow on a CPU",
        "vLLM applies adapters on a CPU by runs of tokens",
    ),
    "check_and_update_config": Touch(
        "vllm.platforms.cpu",
        "CpuPlatform.check_and_update_config",
        "a model with adapters is not compiled on a CPU",
        "vLLM compiles models with adapters on a CPU",
    ),
    "PunicaWrapperCPU": Touch(
        "vllm.lora.punica_wrapper.punica_cpu",
        "PunicaWrapperCPU.update_metadata",
        "adapters are slow on a CPU",
        "vLLM applies adapters on a CPU by runs of tokens",
    ),
    "get_forward_context": Touch(
        "vllm.forward_context",
        "get_forward_context",
        "adapters are slow on a CPU",
        "vLLM applies adapters on a CPU by runs of tokens",
    ),
    "BaseLinearLayerWithLoRA": Touch(
        "vllm.lora.layers.base_linear",
        "BaseLinearLayerWithLoRA._apply_lora_to_output",
        "adapters are slow on a CPU",
        "vLLM applies adapters on a CPU by runs of tokens",
    ),
    "lora_request": Touch(
        "vllm.v1.request",
        "Request.__init__:lora_request",
        "requests run without their set's adapter",
        _PUBLIC_SCHEDULER,
    ),
    "rotary_kernel": Touch(
        "vllm._custom_ops",
        "rotary_embedding",
        "no fused rotation on a CPU",
        "our own kernel covers CPUs",
    ),
    "Scheduler": Touch(_CORE + ".scheduler", "Scheduler", "no promotion", _PUBLIC_SCHEDULER),
    "AsyncScheduler": Touch(
        _CORE + ".async_scheduler", "AsyncScheduler", "no asynchronous step", _PUBLIC_SCHEDULER
    ),
    "preempt": Touch(
        _CORE + ".scheduler", "Scheduler._preempt_request", "no promotion", _PUBLIC_SCHEDULER
    ),
    "running": Touch(
        _CORE + ".scheduler", "Scheduler.__init__:running", "no promotion", _PUBLIC_SCHEDULER
    ),
    **{
        f"pacing_{name}": Touch(
            f"{_CORE}.scheduler",
            f"Scheduler.{where}",
            "chats wait for long prefills",
            _PUBLIC_PACING,
        )
        for name, where in {
            "waiting": "__init__:waiting",
            "max_num_scheduled_tokens": "schedule:max_num_scheduled_tokens",
            "threshold": "schedule:long_prefill_token_threshold",
            "get_request_counts": "get_request_counts",
            "update_from_output": "update_from_output",
        }.items()
    },
    "Request": Touch("vllm.v1.request", "Request", "no pinning", _PUBLIC_SCHEDULER),
    "RequestStatus": Touch(
        "vllm.v1.request", "RequestStatus.PREEMPTED", "no promotion", _PUBLIC_SCHEDULER
    ),
    "update_block_hashes": Touch(
        "vllm.v1.request",
        "Request.update_block_hashes:block_hashes",
        "KV blocks of different sets are not kept apart",
        _PUBLIC_SCHEDULER,
    ),
    **{
        attribute: Touch("vllm.v1.request", f"Request.__init__:{attribute}", why, _PUBLIC_SCHEDULER)
        for attribute, why in {
            "cache_salt": "KV blocks of different sets are not kept apart",
            "num_output_placeholders": "tokens in flight are not counted against the limit",
            "resumable": "a streaming session could outgrow its set",
            "spec_token_ids": "draft tokens could cross the limit",
        }.items()
    },
    "GPUModelRunner": Touch(
        _WORKER + ".gpu_model_runner", "GPUModelRunner", "no V1 runner", _PUBLIC_POSITIONS
    ),
    "preprocess": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._preprocess",
        "V1 positions are not packed",
        _PUBLIC_POSITIONS,
    ),
    "update_states": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._update_states",
        "the V1 runner does not learn a request's set",
        _PUBLIC_POSITIONS,
    ),
    "req_indices": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner.__init__:req_indices",
        "V1 tokens are not mapped to requests",
        _PUBLIC_POSITIONS,
    ),
    **{
        name: Touch(
            _WORKER + ".gpu_model_runner",
            f"GPUModelRunner.{where}",
            "a seeded request whose prompt takes several steps ends a CPU's engine",
            "vLLM keeps a generator's state over a prefill on every device (a test tells)",
        )
        for name, where in {
            "sample": "_sample",
            "bookkeeping": "_bookkeeping_sync:generators",
            "discarded": "__init__:discard_request_mask",
        }.items()
    },
    "dummy_run": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._dummy_run:positions",
        "V1's CUDA graphs replay with positions that hold no set",
        _PUBLIC_POSITIONS,
    ),
    "model_state": Touch(
        _WORKER + ".gpu.model_runner",
        "GPUModelRunner.load_model:model_state",
        "V2 positions are not packed",
        _PUBLIC_POSITIONS,
    ),
    "make_buffer": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._make_buffer",
        "V1 positions are not packed",
        _PUBLIC_POSITIONS,
    ),
    "StagedWriteTensor": Touch(
        _WORKER + ".gpu.buffer_utils",
        "StagedWriteTensor.apply_write",
        "the V2 runner's device does not learn a request's set",
        _PUBLIC_POSITIONS,
    ),
    **{
        f"model_state_{method}": Touch(
            _WORKER + ".gpu.model_states.interface",
            f"ModelState.{method}",
            "V2 positions are not packed",
            _PUBLIC_POSITIONS,
        )
        for method in (
            "add_request",
            "apply_staged_writes",
            "prepare_inputs",
            "prepare_dummy_inputs",
        )
    },
}

# Where preemption moves the count of tokens in flight into one of its own (vLLM 0.27 and later).
STALE_TOUCHES: dict[str, Touch] = {
    attribute: Touch("vllm.v1.request", f"Request.__init__:{attribute}", why, _PUBLIC_SCHEDULER)
    for attribute, why in {
        "num_stale_output_tokens": "promotion does not wait for tokens in flight",
        "drop_stale_output": "promotion waits for tokens that never come",
    }.items()
}

_PUBLIC_PROGRESS = "vLLM's front end knows how far a prefill is"

# What the HTTP front end needs, of any model.
FRONT_END_TOUCHES: dict[str, Touch] = {
    "configure_logging_from_args": Touch(
        "vllm.logger",
        "configure_logging_from_args",
        "no `longrope serve`",
        "`vllm serve` can be called by its name in a program",
    ),
    "cli_env_setup": Touch(
        "vllm.entrypoints.serve.utils.api_utils",
        "cli_env_setup",
        "no `longrope serve`",
        "`vllm serve` can be called by its name in a program",
    ),
    "EngineCore": Touch(
        "vllm.v1.engine.core", "EngineCore", "no prefill progress", _PUBLIC_PROGRESS
    ),
    "call_utility": Touch(
        "vllm.v1.engine.core_client",
        "AsyncMPClient._call_utility_async",
        "no prefill progress",
        _PUBLIC_PROGRESS,
    ),
    "core_engines": Touch(
        "vllm.v1.engine.core_client",
        "MPClient.__init__:core_engines",
        "no prefill progress",
        _PUBLIC_PROGRESS,
    ),
    "external_req_ids": Touch(
        "vllm.v1.engine.output_processor",
        "OutputProcessor.__init__:external_req_ids",
        "no prefill progress",
        _PUBLIC_PROGRESS,
    ),
    "get_encode_kwargs": Touch(
        "vllm.renderers.params",
        "TokenizeParams.get_encode_kwargs:truncate_prompt_tokens",
        "the refusal of a prompt that is too long says 'at least' in place of its length",
        "vLLM counts the whole prompt",
    ),
    "format_error": Touch(
        "vllm.entrypoints.serve.exception_handling.handlers.validation",
        "_format_error",
        "refusals of a malformed request repeat what is in it",
        "vLLM leaves the input out",
    ),
    "VLLMValidationError": Touch(
        "vllm.exceptions",
        "VLLMValidationError.__str__:value",
        "refusals of a malformed request repeat what is in it",
        "vLLM leaves the input out",
    ),
    **{
        name: Touch(
            f"vllm.{module}",
            attribute,
            "some malformed requests are answered with 500",
            "vLLM answers 400 to whatever a client's values make it raise",
        )
        for name, (module, attribute) in {
            "preprocess_chat": ("renderers.online_renderer", "OnlineRenderer.preprocess_chat"),
            "add_request": ("v1.engine.async_llm", "AsyncLLM.add_request"),
            "give_to_engine": ("v1.engine.async_llm", "AsyncLLM._add_request:output_processor"),
            "generate": ("v1.engine.async_llm", "AsyncLLM.generate"),
        }.items()
    },
}


_ROOM_ON_V2 = "a request that names many tokens ends Model Runner V2's engine"
_ROOM_CHECKED = "vLLM refuses what its runner has no room for"

# How many tokens of a request Model Runner V2 has room for.
V2_ROOM: dict[str, Touch] = {
    "logit_bias": Touch(
        _WORKER + ".gpu.sample.logit_bias", "MAX_NUM_LOGIT_BIAS_TOKENS", _ROOM_ON_V2, _ROOM_CHECKED
    ),
    "allowed_token_ids": Touch(
        _WORKER + ".gpu.sample.logit_bias", "MAX_NUM_ALLOWED_TOKEN_IDS", _ROOM_ON_V2, _ROOM_CHECKED
    ),
    "stop_token_ids": Touch(
        _WORKER + ".gpu.sample.logit_bias", "MAX_NUM_STOP_TOKEN_IDS", _ROOM_ON_V2, _ROOM_CHECKED
    ),
    "bad_words": Touch("vllm.envs", "VLLM_MAX_BAD_WORDS_TOTAL_TOKENS", _ROOM_ON_V2, _ROOM_CHECKED),
}


def check() -> None:
    """Resolves every touch. Raises RuntimeError naming the first that is not there."""
    for touch in (*TOUCHES.values(), *(STALE_TOUCHES.values() if _has_stale_tokens() else ())):
        _resolve(touch)


def check_front_end() -> None:
    """The same for what the HTTP front end needs."""
    for touch in (*FRONT_END_TOUCHES.values(), *V2_ROOM.values()):
        _resolve(touch, FRONT_END_KNOWN_TO_WORK)


def _resolve(touch: Touch, known_to_work: str = KNOWN_TO_WORK) -> Any:
    """The object of the touch's dotted name, its attribute after the colon verified."""
    path, _, attribute = touch.name.partition(":")
    try:
        value: Any = importlib.import_module(touch.module)
        for part in path.split("."):
            value = getattr(value, part)
        if attribute and attribute not in inspect.unwrap(value).__code__.co_names:
            raise AttributeError(attribute)
    except (ImportError, AttributeError) as error:
        from vllm.version import __version__ as version

        raise RuntimeError(
            f"longrope needs {touch.module}.{touch.name}, which vLLM {version} does not have "
            f"(without it: {touch.why}). vLLM {known_to_work} is known to work."
        ) from error
    return value


@functools.cache
def _has_stale_tokens() -> bool:
    """Whether preemption sets the count of a request's tokens in flight to zero."""
    preempt = inspect.unwrap(_resolve(TOUCHES["preempt"]))
    return "num_output_placeholders" in preempt.__code__.co_names


def tokens_in_flight(preempted: Any) -> int:
    """How many tokens of a preempted request are being computed and will still be delivered."""
    if not _has_stale_tokens():
        return preempted.num_output_placeholders
    return 0 if preempted.drop_stale_output else preempted.num_stale_output_tokens


_TAKEN = (
    "get_forward_context",
    "Scheduler",
    "AsyncScheduler",
    "Request",
    "GPUModelRunner",
)
_CLASSES_WITH_AN_ATTRIBUTE = (
    "RequestStatus",
    "StagedWriteTensor",
    "PunicaWrapperCPU",
    "BaseLinearLayerWithLoRA",
)


def __getattr__(name: str) -> Any:
    if name in _TAKEN:
        return _resolve(TOUCHES[name])
    if name in _CLASSES_WITH_AN_ATTRIBUTE:
        touch = TOUCHES[name]
        _resolve(touch)
        return getattr(importlib.import_module(touch.module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def hook_configuration() -> None:
    """Makes every VllmConfig ask `config.configure`, after vLLM's own per-model hook."""
    original = _resolve(TOUCHES["VllmConfig"])
    if hasattr(original, "longrope"):
        return

    @functools.wraps(original)
    def try_verify_and_update_config(vllm_config: Any) -> None:
        model_config = vllm_config.model_config
        is_first_call = model_config is not None and not model_config.config_updated
        original(vllm_config)
        if is_first_call:
            from longrope_plugin.config import configure

            configure(vllm_config)

    try_verify_and_update_config.longrope = True  # type: ignore[attr-defined]
    owner = importlib.import_module("vllm.config.vllm").VllmConfig
    owner.try_verify_and_update_config = try_verify_and_update_config


def refuse_callers_adapters() -> None:
    """Makes the front end of an engine refuse a caller's adapter where a set has its own."""
    original = _resolve(TOUCHES["process_inputs"])
    if hasattr(original, "longrope"):
        return

    @functools.wraps(original)
    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        if request.lora_request is not None:
            from longrope_plugin.adapters import refuse_callers_adapter
            from longrope_plugin.selection import Selection

            if not hasattr(self, "longrope_selection"):  # reads the factor file
                self.longrope_selection = Selection.from_vllm_config(self.vllm_config)
            if (selection := self.longrope_selection) is not None:
                prompt = len(
                    request.prompt_embeds
                    if request.prompt_token_ids is None
                    else request.prompt_token_ids
                )
                sampling = request.sampling_params
                max_tokens = sampling.max_tokens if sampling is not None else 0
                try:
                    refuse_callers_adapter(selection, prompt, max_tokens, request.resumable)
                except ValueError as error:  # which some of vLLM's routes answer with 500
                    raise _validation_error()(str(error)) from None
        return request

    process_inputs.longrope = True  # type: ignore[attr-defined]
    owner = importlib.import_module(TOUCHES["process_inputs"].module).InputProcessor
    owner.process_inputs = process_inputs


def use_grouped_adapters() -> None:
    """Makes a CPU note which tokens have which adapter as `grouped_adapters` applies them."""
    from vllm.platforms import current_platform

    _resolve(TOUCHES["punica_wrapper"])
    type(current_platform).get_punica_wrapper = classmethod(
        lambda cls: "longrope_plugin.grouped_adapters.GroupedAdapters"
    )


def compile_with(lora_config: Any) -> None:
    """Lets a CPU compile a model whose adapters are all those of `lora_config`, applied as ours.

    vLLM's own way of applying adapters there cannot be compiled, so that it compiles nothing.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    lora_config.longrope = True
    original = _resolve(TOUCHES["check_and_update_config"])
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


def current_vllm_config() -> Any:
    """The configuration of the engine whose model is being built."""
    return _resolve(TOUCHES["current_vllm_config"])()


def platform_worker() -> type:
    """The worker class that vLLM would have used on this machine's platform."""
    from vllm.platforms import current_platform

    module, name = (
        ("vllm.v1.worker.cpu_worker", "CPUWorker")
        if current_platform.is_cpu()
        else ("vllm.v1.worker.xpu_worker", "XPUWorker")
        if current_platform.is_xpu()
        else ("vllm.v1.worker.gpu_worker", "Worker")
    )
    return _resolve(Touch(module, name, "no worker", "worker_cls takes a mix-in"))


def replace_rotary_embedding() -> None:
    """Puts our layer where `get_rope` looks for the one of `rope_type: longrope`."""
    from longrope_plugin.rotary import from_vllm

    _resolve(TOUCHES["rotary_module"])
    _resolve(TOUCHES["rope_cache"]).clear()
    module = importlib.import_module(TOUCHES["rotary_module"].module)
    module.Phi3LongRoPEScaledRotaryEmbedding = from_vllm  # type: ignore[attr-defined]


def run_model(runner: Any, tokens: torch.Tensor, positions: torch.Tensor) -> None:
    """One forward pass, neither compiled nor attending, of tokens and positions, int64 [n]."""
    from vllm.distributed import get_pp_group

    vllm_config, model = runner.vllm_config, runner.get_model()
    received = None
    if not get_pp_group().is_first_rank:
        received = model.make_empty_intermediate_tensors(
            len(tokens), vllm_config.model_config.dtype, tokens.device
        )
    if vllm_config.lora_config is not None:  # its layers ask whose tokens these are
        _resolve(TOUCHES["set_active_loras"])(runner, (0,), (0,) * len(tokens), set())
    context = _resolve(TOUCHES["set_forward_context"])(
        None, vllm_config, num_tokens=len(tokens), skip_compiled=True
    )
    with context, torch.inference_mode():
        model(
            input_ids=tokens,
            positions=positions,
            intermediate_tensors=received,
            inputs_embeds=None,
        )


@functools.cache
def _rotary_kernel() -> Callable[..., None]:
    return _resolve(TOUCHES["rotary_kernel"])


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


def add_prefill_progress() -> None:
    """Lets the engine be asked how far prompts are; run in its process."""
    engine_core = _resolve(FRONT_END_TOUCHES["EngineCore"])

    def prefill_progress(self: Any, request_ids: list[str]) -> dict[str, int]:
        requests = self.scheduler.requests
        return {
            each: requests[each].num_computed_tokens for each in request_ids if each in requests
        }

    setattr(engine_core, PREFILL_PROGRESS, prefill_progress)


async def prefill_progress(engine_client: Any, request_ids: Sequence[str]) -> dict[str, int]:
    """Computed prompt tokens by request id, as `engine_client.generate` was told the ids.

    Of several sequences of one prompt the one that is furthest counts.
    """
    known = engine_client.output_processor.external_req_ids
    inner = {each: outer for outer in request_ids for each in known.get(outer, ())}
    client = engine_client.engine_core
    answers = await asyncio.gather(
        *(
            client._call_utility_async(PREFILL_PROGRESS, list(inner), engine=engine)
            for engine in client.core_engines
        )
    )
    computed: dict[str, int] = {}
    for each, tokens in (item for answer in answers for item in answer.items()):
        computed[inner[each]] = max(computed.get(inner[each], 0), tokens)
    return computed


def count_whole_prompts() -> None:
    """Makes vLLM's refusal of a prompt that is too long say how long it is.

    vLLM has the tokenizer cut every prompt off one token past the limit. The tokenizer has done
    the whole work by then, and the length of a body is limited before.
    """
    original = _resolve(FRONT_END_TOUCHES["get_encode_kwargs"])
    if hasattr(original, "longrope"):
        return

    @functools.wraps(original)
    def get_encode_kwargs(self: Any) -> dict[str, Any]:
        arguments = original(self)
        if self.truncate_prompt_tokens is None and arguments.pop("max_length", None) is not None:
            arguments["truncation"] = False
        return arguments

    get_encode_kwargs.longrope = True  # type: ignore[attr-defined]
    owner = importlib.import_module("vllm.renderers.params").TokenizeParams
    owner.get_encode_kwargs = get_encode_kwargs


# What code raises that meets a value which it does not expect. RecursionError apart no
# RuntimeError is: those, and errors of the system, are the server's.
_STUMBLES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def is_stumble(error: BaseException, engine_has_it: bool) -> bool:
    """Whether a request made vLLM raise this in front of the engine.

    Once an engine has the request only arithmetic tells that: it is of the request's own numbers,
    such as `length_penalty`. vLLM itself answers 400 to every OverflowError.
    """
    if engine_has_it:
        return isinstance(error, (ArithmeticError, _validation_error()))
    return isinstance(error, (*_STUMBLES, _validation_error()))


def stumble_sentence(error: BaseException) -> str:
    """Tells the client. What vLLM says itself of a request is a sentence; other texts are not."""
    if isinstance(error, _validation_error()):
        return str(error)
    return (
        f"The request cannot be read ({type(error).__name__}): a field of it has a value that this "
        "API does not take."
    )


def _validation_error() -> type[Exception]:
    _resolve(FRONT_END_TOUCHES["VLLMValidationError"])
    error: type[Exception] = importlib.import_module("vllm.exceptions").VLLMValidationError
    return error


def refuse_what_stumbles(engine_has_it: Callable[[], None]) -> None:
    """Makes what a request raises before an engine has it the client's error, not the server's.

    Where vLLM turns every exception into its answer itself: while messages become a prompt, and
    between `AsyncLLM.generate` and the engine. engine_has_it: called once the engine has a request.
    """
    if hasattr(_resolve(FRONT_END_TOUCHES["add_request"]), "longrope"):
        return
    for name in ("preprocess_chat", "add_request"):
        _replace(FRONT_END_TOUCHES[name], _refusing)

    def giving(original: Any) -> Any:
        async def _add_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
            if self.vllm_config.use_v2_model_runner and request.sampling_params is not None:
                _refuse_what_v2_has_no_room_for(request.sampling_params)
            try:
                await original(self, request, *args, **kwargs)
            except _STUMBLES:  # it cannot be sent; what waits for its outputs goes with it
                self.output_processor.abort_requests([request.request_id], internal=True)
                raise
            engine_has_it()

        return _add_request

    _replace(FRONT_END_TOUCHES["give_to_engine"], giving)
    _replace(FRONT_END_TOUCHES["generate"], _refusing_dead_ends)


def _refusing(original: Any) -> Any:
    """A coroutine function that raises vLLM's own error for a malformed request."""

    async def refusing(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except _STUMBLES as error:
            if isinstance(error, _validation_error()):
                raise
            raise _validation_error()(stumble_sentence(error)) from error

    return refusing


def _refuse_what_v2_has_no_room_for(sampling_params: Any) -> None:
    """Raises vLLM's own error for what its sampler would raise in the engine, and end it."""
    params = sampling_params
    named: dict[str, Any] = {
        "logit_bias": params.logit_bias,
        "allowed_token_ids": params.allowed_token_ids,
        "stop_token_ids": params.min_tokens and params.all_stop_token_ids,  # the model's among them
        "bad_words": [token for word in params.bad_words_token_ids or () for token in word],
    }
    for field, tokens in named.items():
        room = _resolve(V2_ROOM[field])
        if tokens and len(tokens) > room:
            beside = " with min_tokens" if field == "stop_token_ids" else ""
            raise _validation_error()(
                f"{field}{beside} names {len(tokens)} tokens; this engine has room for {room}."
            )


def _refusing_dead_ends(original: Any) -> Any:
    """`generate`, which says what it means that the engine gave a structured output up.

    vLLM cannot tell beforehand: a grammar that does not compile, or one that with the request's
    other constraints (allowed tokens, bad words) leaves no token to go on with.
    """

    async def constrained(outputs: Any) -> Any:
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                if any(sequence.finish_reason == "error" for sequence in output.outputs):
                    raise _validation_error()(
                        "The answer cannot be written: its structured output, together with what "
                        "else the request asks of its tokens, allows none at this place."
                    )
                yield output

    def generate(self: Any, prompt: Any, sampling_params: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, prompt, sampling_params, *args, **kwargs)
        return outputs if sampling_params.structured_outputs is None else constrained(outputs)

    return generate


def _replace(touch: Touch, wrapped: Callable[[Any], Any]) -> None:
    """Puts what `wrapped` makes of a method in its place."""
    owner_name, name = touch.name.partition(":")[0].rsplit(".", 1)
    original = _resolve(touch)
    replacement: Any = functools.wraps(original)(wrapped(original))
    replacement.longrope = True
    setattr(getattr(importlib.import_module(touch.module), owner_name), name, replacement)


def keep_inputs_out_of_errors() -> None:
    """Makes vLLM's refusals say what is wrong with a value, and not the value: it may be a prompt.

    Numbers are said.
    """
    original = _resolve(FRONT_END_TOUCHES["format_error"])
    if hasattr(original, "longrope"):
        return

    @functools.wraps(original)
    def format_error(error: Any) -> str:
        if isinstance(error, dict):
            error = {name: error[name] for name in ("type", "loc", "msg") if name in error}
        return original(error)

    format_error.longrope = True  # type: ignore[attr-defined]
    module = importlib.import_module(FRONT_END_TOUCHES["format_error"].module)
    module._format_error = format_error  # type: ignore[attr-defined]

    described = _resolve(FRONT_END_TOUCHES["VLLMValidationError"])

    @functools.wraps(described)
    def describe(self: Any) -> str:
        if self.value is None or isinstance(self.value, int | float):
            return described(self)
        return Exception.__str__(self)

    importlib.import_module("vllm.exceptions").VLLMValidationError.__str__ = describe
