"""Why vLLM may not start on a plan's GPUs although the memory suffices."""

import math
from collections.abc import Iterator

from longrope_server.plan import attention, cost
from longrope_server.plan.fitting import Fitting
from longrope_server.plan.gpus import Cluster
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.units import size


def about_the_model(shape: ModelShape) -> Iterator[str]:
    """What the numbers of this model leave out or depend on, one sentence each."""
    if shape.sees:
        yield (
            "The vision tower is not counted: leave it out with --language-model-only, or keep "
            "room for it."
        )
    if shape.linear:
        yield (
            f"{sum(shape.linear.layers)} of {shape.layers} layers have linear attention, whose "
            "state does not grow with the length: only the others cache keys and values."
        )
    if shape.experts:
        yield (
            f"Each token uses {shape.experts.chosen} of {shape.experts.count} experts: the times "
            "count those, the memory all. Several requests at once read more of them."
        )


def cautions(fitting: Fitting, kv_dtype: str, cluster: Cluster) -> Iterator[str]:
    """The reasons, one sentence each."""
    gpu, share = cluster.gpu, fitting.memory_share
    if fitting.cache.element_bytes == 1 and not attention.has_fp8_cache(gpu):
        yield (
            f"On {gpu.name} (compute capability {gpu.capability}) vLLM's own kernels do not take "
            f"--kv-dtype {kv_dtype}: get FlashInfer's (`vllm download-kernels`)."
        )
    outside = cost.outside_bytes(cluster.gpus)
    if gpu.memory_bytes <= outside:
        yield (
            f"vLLM will not start on {gpu.name}: CUDA and communication take some {size(outside)} "
            "of each GPU."
        )
    elif (1 - share) * gpu.memory_bytes < outside:
        most = math.floor(100 * (1 - outside / gpu.memory_bytes)) / 100
        yield (
            f"vLLM will not start with --gpu-memory-utilization {share:g} unless that much is "
            f"free once CUDA and communication took their part, some {size(outside)} of each "
            f"GPU: on {gpu.name} it should be {most:g} at most."
        )
