"""vLLM's private names that our classes extend or read, each with what breaks without it.

`from longrope_plugin.compat.names import Scheduler` resolves that name where it is used.
"""

import functools
import importlib
import inspect
from typing import Any

from longrope_plugin.compat.touch import PUBLIC_POSITIONS, PUBLIC_SCHEDULER, Touch, resolve

_PUBLIC_PACING = "vLLM bounds the time of a step itself"
_IN_A_PAUSE = "a pause that waits is over before promoted requests have ended"
_CORE = "vllm.v1.core.sched"
_WORKER = "vllm.v1.worker"

TOUCHES: dict[str, Touch] = {
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
    "BaseLayerWithLoRA": Touch(
        "vllm.lora.layers.base",
        "BaseLayerWithLoRA",
        "on a CPU, requests without an adapter wait for the adapters of others",
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
        PUBLIC_SCHEDULER,
    ),
    "Scheduler": Touch(_CORE + ".scheduler", "Scheduler", "no promotion", PUBLIC_SCHEDULER),
    "AsyncScheduler": Touch(
        _CORE + ".async_scheduler", "AsyncScheduler", "no asynchronous step", PUBLIC_SCHEDULER
    ),
    "preempt": Touch(
        _CORE + ".scheduler", "Scheduler._preempt_request", "no promotion", PUBLIC_SCHEDULER
    ),
    **{
        name: Touch(
            _CORE + ".scheduler",
            f"Scheduler.schedule:{name}",
            "a request near its limit is computed anew until its drafts are accepted",
            PUBLIC_SCHEDULER,
        )
        for name in ("next_decode_eligible_step", "current_step")
    },
    "prev_step": Touch(
        _CORE + ".scheduler",
        "Scheduler.__init__:prev_step_scheduled_req_ids",
        "a promotion that follows a pause ends the V1 runner's engine",
        PUBLIC_SCHEDULER,
    ),
    "PauseState": Touch(
        _CORE + ".interface", "PauseState.PAUSED_NEW", _IN_A_PAUSE, PUBLIC_SCHEDULER
    ),
    "unfinished": Touch(
        _CORE + ".scheduler",
        "Scheduler.get_num_unfinished_requests:_pause_state",
        _IN_A_PAUSE,
        PUBLIC_SCHEDULER,
    ),
    "running": Touch(
        _CORE + ".scheduler", "Scheduler.__init__:running", "no promotion", PUBLIC_SCHEDULER
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
    **{
        name: Touch(
            f"{_CORE}.request_queue", f"RequestQueue.{name}", "no promotion", PUBLIC_SCHEDULER
        )
        for name in ("remove_requests", "prepend_requests")
    },
    "Request": Touch("vllm.v1.request", "Request", "no pinning", PUBLIC_SCHEDULER),
    "RequestStatus": Touch(
        "vllm.v1.request", "RequestStatus.PREEMPTED", "no promotion", PUBLIC_SCHEDULER
    ),
    "update_block_hashes": Touch(
        "vllm.v1.request",
        "Request.update_block_hashes:block_hashes",
        "KV blocks of different sets are not kept apart",
        PUBLIC_SCHEDULER,
    ),
    **{
        attribute: Touch("vllm.v1.request", f"Request.__init__:{attribute}", why, PUBLIC_SCHEDULER)
        for attribute, why in {
            "cache_salt": "KV blocks of different sets are not kept apart",
            "num_output_placeholders": "tokens in flight are not counted against the limit",
            "resumable": "a streaming session could outgrow its set",
            "spec_token_ids": "draft tokens could cross the limit",
        }.items()
    },
    "GPUModelRunner": Touch(
        _WORKER + ".gpu_model_runner", "GPUModelRunner", "no V1 runner", PUBLIC_POSITIONS
    ),
    "preprocess": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._preprocess",
        "V1 positions are not packed",
        PUBLIC_POSITIONS,
    ),
    "update_states": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._update_states",
        "the V1 runner does not learn a request's set",
        PUBLIC_POSITIONS,
    ),
    "req_indices": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner.__init__:req_indices",
        "V1 tokens are not mapped to requests",
        PUBLIC_POSITIONS,
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
    "mrope_positions": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner.__init__:mrope_positions",
        "V1's CUDA graphs replay with positions that hold no set, if tokens have several positions",
        PUBLIC_POSITIONS,
    ),
    "dummy_run": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._dummy_run:positions",
        "V1's CUDA graphs replay with positions that hold no set",
        PUBLIC_POSITIONS,
    ),
    "model_state": Touch(
        _WORKER + ".gpu.model_runner",
        "GPUModelRunner.load_model:model_state",
        "V2 positions are not packed",
        PUBLIC_POSITIONS,
    ),
    "make_buffer": Touch(
        _WORKER + ".gpu_model_runner",
        "GPUModelRunner._make_buffer",
        "V1 positions are not packed",
        PUBLIC_POSITIONS,
    ),
    "StagedWriteTensor": Touch(
        _WORKER + ".gpu.buffer_utils",
        "StagedWriteTensor.apply_write",
        "the V2 runner's device does not learn a request's set",
        PUBLIC_POSITIONS,
    ),
    **{
        f"model_state_{method}": Touch(
            _WORKER + ".gpu.model_states.interface",
            f"ModelState.{method}",
            "V2 positions are not packed",
            PUBLIC_POSITIONS,
        )
        for method in (
            "add_request",
            "apply_staged_writes",
            "prepare_inputs",
            "prepare_dummy_inputs",
        )
    },
}

_KV = "vllm.distributed.kv_transfer.kv_connector.v1"
_STALE_KEYS = "a promoted request's blocks are stored under the keys of its earlier set"
_PUBLIC_KEYS = "vLLM tells KV connectors that a request's block hashes have changed"

_REPORTED = Touch(
    _CORE + ".scheduler",
    "Scheduler.__init__:reset_preempted_req_ids",
    "a promoted request resumes in the step that ends its transfers, and the engine stops",
    "KV connectors end only the transfers that began before a preemption",
)

# Needed only by engines with the KV connector of that name.
CONNECTOR_TOUCHES: dict[str, tuple[Touch, ...]] = {
    **dict.fromkeys(("SimpleCPUOffloadConnector", "LMCacheMPConnector"), (_REPORTED,)),
    "OffloadingConnector": (
        _REPORTED,
        Touch(
            _KV + ".offloading_connector",
            "OffloadingConnector.__init__:connector_scheduler",
            _STALE_KEYS,
            _PUBLIC_KEYS,
        ),
        Touch(
            _KV + ".offloading.scheduler",
            "OffloadingConnectorScheduler.__init__:_req_status",
            _STALE_KEYS,
            _PUBLIC_KEYS,
        ),
        Touch(
            _KV + ".offloading.scheduler",
            "RequestOffloadState.__post_init__:group_states",
            _STALE_KEYS,
            _PUBLIC_KEYS,
        ),
        Touch(
            _KV + ".offloading.scheduler",
            "RequestOffloadState.update_block_id_groups:block_ids",
            "blocks of a request that ends while it is preempted are stored after they were freed",
            "vLLM forgets them itself (a test tells)",
        ),
    ),
    **{
        name: (
            _REPORTED,
            Touch(
                _CORE + ".scheduler",
                "Scheduler._connector_finished",
                "a decode engine cannot check the set of a prefill",
                "KV connectors hand over what a scheduler adds",
            ),
            Touch(
                "vllm.v1.request",
                "Request.__init__:kv_transfer_params",
                "a request that the front end did not see could read blocks of another set",
                "KV connectors hand over what a scheduler adds",
            ),
        )
        for name in ("NixlConnector", "NixlPullConnector")
    },
}

# Needed only if preemption moves the count of tokens in flight to an attribute of its own (vLLM
# 0.27 and later).
STALE_TOUCHES: dict[str, Touch] = {
    attribute: Touch("vllm.v1.request", f"Request.__init__:{attribute}", why, PUBLIC_SCHEDULER)
    for attribute, why in {
        "num_stale_output_tokens": "promotion does not wait for tokens in flight",
        "drop_stale_output": "promotion waits for tokens that never come",
    }.items()
}

# Needed only if some waiting requests may go on in a pause that waits (vLLM 0.32 and later).
PAUSE_TOUCHES: dict[str, Touch] = {
    "kv_holding_waiting": Touch(
        _CORE + ".scheduler",
        "Scheduler.__init__:kv_holding_waiting",
        _IN_A_PAUSE,
        PUBLIC_SCHEDULER,
    ),
}


@functools.cache
def _has_stale_tokens() -> bool:
    """Whether preemption sets the count of a request's tokens in flight to zero."""
    preempt = inspect.unwrap(resolve(TOUCHES["preempt"]))
    return "num_output_placeholders" in preempt.__code__.co_names


@functools.cache
def has_queue_for_pauses() -> bool:
    """Whether some waiting requests, those that hold KV blocks, may go on in a pause that waits."""
    unfinished = inspect.unwrap(resolve(TOUCHES["unfinished"]))
    return "kv_holding_waiting" in unfinished.__code__.co_names


def touches() -> tuple[Touch, ...]:
    """The touches that this release of vLLM should have."""
    later = {
        **(STALE_TOUCHES if _has_stale_tokens() else {}),
        **(PAUSE_TOUCHES if has_queue_for_pauses() else {}),
    }
    return (*TOUCHES.values(), *later.values())


def tokens_in_flight(preempted: Any) -> int:
    """How many tokens of a preempted request are being computed and will still be delivered."""
    if not _has_stale_tokens():
        return preempted.num_output_placeholders
    return 0 if preempted.drop_stale_output else preempted.num_stale_output_tokens


_RESOLVED_DIRECTLY = (
    "BaseLayerWithLoRA",
    "get_forward_context",
    "Scheduler",
    "AsyncScheduler",
    "Request",
    "GPUModelRunner",
)
_CLASSES_WITH_AN_ATTRIBUTE = (
    "PauseState",
    "RequestStatus",
    "StagedWriteTensor",
    "PunicaWrapperCPU",
    "BaseLinearLayerWithLoRA",
)


def __getattr__(name: str) -> Any:
    if name in _RESOLVED_DIRECTLY:
        return resolve(TOUCHES[name])
    if name in _CLASSES_WITH_AN_ATTRIBUTE:
        touch = TOUCHES[name]
        resolve(touch)
        return getattr(importlib.import_module(touch.module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
