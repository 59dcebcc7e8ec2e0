"""The processes and devices of a fine-tune, which accelerate manages."""

import os
from typing import Any

from accelerate import Accelerator

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.finetuning.settings import Settings


def dtype(device: str | None) -> str:
    """The default dtype of training: bfloat16 on a GPU, float32 on a CPU.

    torch's mixed precision gains little on a CPU, even on one with bfloat16 instructions: a step of
    two windows of 1,024 tokens took 9.4 s in bfloat16 and 10.5 s in float32 (SmolLM2-135M, AMX),
    and on a busy machine 88 s and 16 s.
    """
    return "bfloat16" if is_gpu(device) else "float32"


def is_gpu(device: str | None) -> bool:
    """Whether training on `device` uses a GPU; None means a GPU if there is one."""
    import torch

    return device != "cpu" and torch.cuda.is_available()


def memory(kind: str) -> int:
    """Bytes of memory of a kind of device: the GPU's, or the machine's."""
    import torch

    if kind == "cuda":
        return int(torch.cuda.get_device_properties().total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def accelerator(settings: Settings) -> Accelerator:
    """This process's accelerator; `accelerate launch` may have started several processes.

    Every process computes different sequences of a step, except that --context-parallel processes
    share one sequence, with sharded weights (FSDP2). Raises UsageError if the batch cannot be
    divided equally.
    """
    kwargs: dict[str, Any] = {}
    if settings.context_parallel > 1:
        kwargs = _sharing_sequences(settings)
    accelerator = Accelerator(cpu=settings.device == "cpu", **kwargs)
    groups = accelerator.num_processes // settings.context_parallel
    if settings.batch % groups:
        raise UsageError(
            f"--batch {settings.batch} should be a multiple of {groups}, so that every process "
            "gets the same number of sequences."
        )
    return accelerator


def _sharing_sequences(settings: Settings) -> dict[str, Any]:
    from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
    from accelerate.parallelism_config import ParallelismConfig

    size = settings.context_parallel
    state = PartialState(cpu=settings.device == "cpu")
    processes = state.num_processes
    if processes % size:
        raise UsageError(
            f"--context-parallel {size} should divide the number of processes, {processes}: start "
            f"them with accelerate launch --num_processes {size}."
        )
    if state.distributed_type == DistributedType.MULTI_CPU:
        raise UsageError(
            "--context-parallel needs GPUs: accelerate refuses it on CPUs, for which torch has no "
            "context-parallel attention."
        )
    return {
        "parallelism_config": ParallelismConfig(cp_size=size, dp_shard_size=processes // size),
        "fsdp_plugin": FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap"
        ),
    }
