"""An engine in this process, and the requests that tests send it."""

import contextlib
import gc
import inspect
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from tests.plugin.conftest import ON_GPU, ON_V2
from tests.plugin.models import VOCABULARY, TinyModel

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput


# The synchronous scheduler does not depend on the runner, and V2's interpreter is slow.
STEPS = ["async"] if ON_V2 and not ON_GPU else ["async", "sync"]

KV_CACHE_BYTES = 2**27

# On a GPU, the engines of all tests run captured graphs.
ON_A_GPU = {
    "enforce_eager": False,
    "compilation_config": {
        "mode": 0,
        "cudagraph_mode": "FULL",
        "cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 64],
    },
    "kv_cache_memory_bytes": 2**29,
    "gpu_memory_utilization": 0.05,
}


@contextlib.contextmanager
def engine(model: TinyModel, **arguments: Any) -> Iterator["LLM"]:
    """vLLM as a user would start it on this model; shut down at the end of the block."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    _freeze_what_is_here()
    with contextlib.ExitStack() as patches:
        patches.enter_context(_no_collections())
        # vLLM asks a fresh process what a model's class can do, to keep CUDA out of this one.
        patches.enter_context(
            mock.patch("vllm.model_executor.models.registry._run_in_subprocess", lambda ask: ask())
        )
        if arguments.get("enforce_eager", True):
            # Here it would change transformers' own classes, for every later test in this process.
            backend = "vllm.model_executor.models.transformers.base.Base"
            patches.enter_context(mock.patch(f"{backend}._decorate_for_torch_compile"))
        patches.enter_context(_kernels_registered_once())
        patches.enter_context(_configured(bool(arguments.get("async_scheduling"))))
        patches.enter_context(_left_clean())
        llm = LLM(
            model=str(model.directory),
            **{
                "dtype": "float32",
                "skip_tokenizer_init": True,
                "enforce_eager": True,
                "max_model_len": model.limits[-1],
                "max_num_seqs": 16,
                "max_num_batched_tokens": 64,
                "block_size": 32,
                "disable_log_stats": False,
                **(ON_A_GPU if ON_GPU else {}),
                **arguments,
            },
        )
    global _running
    _running += 1
    try:
        yield llm
    finally:
        _running -= 1
        with _no_collections():
            llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        with _no_collections():
            cleanup_dist_env_and_memory()
        if ON_GPU:
            _forget_graphs()


_running = 0  # engines of this process


def _freeze_what_is_here() -> None:
    """Lets no collection of garbage look at modules again, unless an engine is among them."""
    if not _running:
        gc.collect()
        gc.freeze()


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Keeps vLLM from collecting ten times for each engine, half a second each with all modules.

    On a GPU it does: its memory and its graphs depend on it.
    """
    with contextlib.ExitStack() as patches:
        for name in () if ON_GPU else ("collect", "freeze", "unfreeze"):
            patches.enter_context(mock.patch.object(gc, name, return_value=0))
        yield


_kernels_registered = False


@contextlib.contextmanager
def _kernels_registered_once() -> Iterator[None]:
    """Lets only the first engine of this process register vLLM's kernels for a CPU.

    For a later one vLLM searches all modules again, and stumbles over llvmlite's, which a test of
    n-gram drafts has loaded by then.
    """
    from vllm.platforms import current_platform

    global _kernels_registered
    platform, name = type(current_platform), "register_triton_kernel_overrides"
    if ON_GPU or not _kernels_registered or not hasattr(platform, name):  # not in every release
        yield
        _kernels_registered = True
        return
    with mock.patch.object(platform, name):
        yield


@contextlib.contextmanager
def _left_clean() -> Iterator[None]:
    """Takes the KV connector of an engine that does not start out of this process."""
    from vllm.distributed.kv_transfer import ensure_kv_transfer_shutdown

    try:
        yield
    except BaseException:
        ensure_kv_transfer_shutdown()
        raise


def _forget_graphs() -> None:
    """Lets this process capture again: memory that all its graphs shared is gone with them."""
    from vllm.platforms import current_platform

    type(current_platform)._global_graph_pool = None


@contextlib.contextmanager
def _configured(async_scheduling: bool) -> Iterator[None]:
    """Takes back two of vLLM's settings for a CPU.

    It turns asynchronous scheduling off as not needed, and gives the KV cache whole GiB, all of
    which are set to zero.
    """
    if ON_GPU:
        yield
        return
    from vllm.platforms import current_platform
    from vllm.v1.worker import cpu_model_runner

    if async_scheduling and not ON_V2 and "wait_stream" not in inspect.getsource(cpu_model_runner):
        pytest.skip("before vLLM 0.25, V1 on a CPU has no asynchronous step")
    platform_defaults = current_platform.check_and_update_config

    def check_and_update_config(config: Any) -> None:
        asked_for = config.cache_config.kv_cache_memory_bytes
        platform_defaults(config)
        config.cache_config.kv_cache_memory_bytes = asked_for or KV_CACHE_BYTES
        config.scheduler_config.async_scheduling |= async_scheduling

    with mock.patch.object(current_platform, "check_and_update_config", check_and_update_config):
        yield


def scheduler(llm: "LLM") -> Any:
    """The scheduler inside the engine."""
    return llm.llm_engine.engine_core.engine_core.scheduler


def counter(llm: "LLM", name: str) -> int:
    """The value of one of the engine's own Prometheus counters."""
    return sum(int(m.value) for m in llm.get_metrics() if m.name == name)


def random_prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """One prompt of random tokens for each length."""
    generator = random.Random(seed)
    return [[generator.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]


def generate(
    llm: "LLM",
    prompts: Sequence[Sequence[int]],
    max_tokens: int | Sequence[int],
    lora_request: Any = None,
    **params: Any,
) -> "list[RequestOutput]":
    """Greedy decoding of all prompts in one batch, past any end token unless told otherwise."""
    from vllm import SamplingParams, TokensPrompt

    counts = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else max_tokens
    return llm.generate(
        [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts],
        [
            SamplingParams(
                **{
                    "temperature": 0,
                    "ignore_eos": True,
                    "detokenize": False,
                    "max_tokens": n,
                    **params,
                }
            )
            for n in counts
        ],
        use_tqdm=False,
        lora_request=lora_request,
    )


def tokens(outputs: "list[RequestOutput]") -> list[list[int]]:
    """The generated token ids of each request's first choice."""
    return [list(output.outputs[0].token_ids) for output in outputs]
