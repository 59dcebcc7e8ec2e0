"""Whether a request fits on GPUs, in which layout, and how long it may be."""

import math
from dataclasses import dataclass, replace

from longrope_server.plan import attention, cost
from longrope_server.plan.adapters import Adapters
from longrope_server.plan.gpus import GPUS, Cluster, Gpu
from longrope_server.plan.kv_cache import KvCache
from longrope_server.plan.layouts import Layout, allowed, stages
from longrope_server.plan.weights import Weights

USUAL_NODE = 8  # GPUs of a machine if the plan may choose how many


@dataclass(frozen=True)
class Fitting:
    """A model, its cache, the share of each GPU that an engine may take (0 to 1), and adapters."""

    weights: Weights
    cache: KvCache
    memory_share: float
    adapters: Adapters

    def layouts(self, cluster: Cluster) -> list[Layout]:
        """All layouts on the cluster, the preferred one first; one GPU is always among them.

        Layouts that split a group of quantized weights are left out, and those with decode-context
        parallelism if no attention kernel has it.
        """
        dcp = attention.has_context_parallelism(cluster.gpu, self.cache.element_bytes)
        return [
            layout
            for layout in allowed(self.weights.shape, cluster)
            if self.weights.splits(layout.tp) and (layout.dcp == 1 or dcp)
        ]

    def room(self, gpu: Gpu, layout: Layout) -> list[int]:
        """Bytes left for the cache on a GPU of each pipeline stage; below 0 if there is no room.

        Computed as in request_memory (v1/worker/utils.py) and Worker.determine_available_memory
        (v1/worker/gpu_worker.py), with estimates of what they measure: `cost` says how.
        """
        budget = math.ceil(self.memory_share * gpu.memory_bytes)
        used = cost.activation_bytes(self.weights.shape, gpu.chunk, layout.tp)
        used += cost.reserved_bytes(layout)
        held = zip(self.weights.stage_bytes(layout), self.adapters.stage_bytes(layout), strict=True)
        return [budget - used - sum(stage) for stage in held]

    def blocks(self, gpu: Gpu, layout: Layout) -> int:
        """Blocks that requests can use: the fewest of any stage, less one that vLLM keeps.

        See get_kv_cache_configs (v1/core/kv_cache_utils.py).
        """
        return min(left // block for left, block in self._stages(gpu, layout)) - 1

    def spare(self, gpu: Gpu, layout: Layout, tokens: int) -> int:
        """Bytes left on the fullest GPU beside one request of `tokens` tokens."""
        blocks = self.request_blocks(gpu, layout, tokens) + 1
        return min(left - blocks * block for left, block in self._stages(gpu, layout))

    def _stages(self, gpu: Gpu, layout: Layout) -> list[tuple[int, int]]:
        """The room of each pipeline stage's GPUs, and the bytes of a block there."""
        split = stages(self.weights.shape.layers, layout.pp)
        block_bytes = [self.cache.block_bytes(layout.tp, stage) for stage in split]
        return list(zip(self.room(gpu, layout), block_bytes, strict=True))

    def request_blocks(self, gpu: Gpu, layout: Layout, tokens: int) -> int:
        """Blocks of one request of `tokens` tokens."""
        return self.cache.blocks(tokens, in_flight(gpu, layout.pp), layout.dcp, layout.tp)

    def longest(self, gpu: Gpu, layout: Layout) -> int:
        """Tokens of the longest request that fits in this layout; 0 if none does."""
        blocks = self.blocks(gpu, layout)
        return self.cache.longest(blocks, in_flight(gpu, layout.pp), layout.dcp, layout.tp)

    def longest_on(self, cluster: Cluster) -> int:
        """Tokens of the longest request that fits in any layout on the cluster; 0 if none does."""
        return max(self.longest(cluster.gpu, layout) for layout in self.layouts(cluster))

    def best(self, cluster: Cluster, tokens: int) -> Layout | None:
        """The first of the layouts in which one request of `tokens` tokens fits; None if none."""
        for layout in self.layouts(cluster):
            blocks = self.request_blocks(cluster.gpu, layout, tokens)
            if blocks <= self.blocks(cluster.gpu, layout):
                return layout
        return None

    def fewest(self, gpu: Gpu, per_node: int, tokens: int) -> Layout | None:
        """The same with as many machines of `per_node` GPUs as are needed."""
        return self.best(Cluster(gpu, per_node, self.weights.shape.layers), tokens)

    def with_fp8(self) -> "Fitting":
        """The same with one byte for each element of the cache."""
        return replace(self, cache=replace(self.cache, element_bytes=1))


def in_flight(gpu: Gpu, pp: int) -> int:
    """Tokens that may be scheduled and not yet settled: a chunk for each stage and one ahead.

    See VllmConfig.max_in_flight_tokens (config/vllm.py), on Model Runner V2.
    """
    return (pp + 1) * gpu.chunk


def what_would(fitting: Fitting, cluster: Cluster, tokens: int) -> str:
    """One sentence: what would hold a request that does not fit on the cluster."""
    ways = []
    per_node = max(USUAL_NODE, cluster.per_node)
    if layout := fitting.fewest(cluster.gpu, per_node, tokens):
        ways.append(f"{_named(layout, cluster.gpu)} ({in_words(layout, per_node)})")
    fp8 = fitting.with_fp8()
    wide = fitting.cache.element_bytes > 1
    if wide and attention.has_fp8_cache(cluster.gpu) and (layout := fp8.best(cluster, tokens)):
        ways.append(f"--kv-dtype fp8 ({in_words(layout, cluster.per_node)})")
    larger = (
        gpu
        for gpu in GPUS
        if gpu.memory_bytes > cluster.gpu.memory_bytes and (wide or attention.has_fp8_cache(gpu))
    )
    for gpu in larger:
        if layout := fitting.best(replace(cluster, gpu=gpu), tokens):
            ways.append(f"{_named(layout, gpu)} ({in_words(layout, cluster.per_node)})")
            break
    given = f"{cluster.gpus} x {cluster.gpu.name}"
    would = f"{' or '.join(ways)} would do" if ways else "no number of them would do"
    return f"{tokens:,} tokens do not fit on {given}: {would}."


def in_words(layout: Layout, per_node: int) -> str:
    """A layout's sizes and, if there are several, its machines."""
    parts = [f"tensor {layout.tp}", f"pipeline {layout.pp}"]
    if layout.dcp > 1:
        parts.append(f"decode-context {layout.dcp}")
    if (machines := machines_of(layout, per_node)) > 1:
        parts.append(f"{machines} machines of {per_node}")
    return ", ".join(parts)


def machines_of(layout: Layout, per_node: int) -> int:
    """How many machines of `per_node` GPUs a layout takes; each tensor-parallel group is on one."""
    return -(-layout.pp // (per_node // layout.tp))


def _named(layout: Layout, gpu: Gpu) -> str:
    return f"{layout.gpus} x {gpu.name}"
