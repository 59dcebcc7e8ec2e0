"""How a model can be split over GPUs: what vLLM and its models allow."""

from collections.abc import Iterator
from dataclasses import dataclass

from longrope_server.plan.gpus import Cluster
from longrope_server.plan.model_shape import ModelShape


@dataclass(frozen=True)
class Layout:
    """Sizes of tensor, pipeline and decode-context parallelism.

    The ranks of decode-context parallelism are those of tensor parallelism: it adds no GPU.
    """

    tp: int
    pp: int
    dcp: int

    @property
    def gpus(self) -> int:
        """How many GPUs it takes."""
        return self.tp * self.pp


def allowed(shape: ModelShape, cluster: Cluster) -> list[Layout]:
    """All layouts of the model on the cluster that vLLM's configuration takes, the best first.

    Fewest GPUs; then tensor before pipeline parallelism, which makes each token faster; then the
    least decode-context parallelism, which costs communication. Tensor parallelism stays within a
    machine; on several machines its size divides theirs, because Ray fills one after the other.
    """
    found = [
        Layout(tp, pp, dcp)
        for tp in tensor_sizes(shape, cluster.per_node)
        for pp in range(1, min(shape.layers, _stages_at_most(cluster, tp)) + 1)
        for dcp in context_sizes(shape, tp)
    ]
    return sorted(found, key=lambda layout: (layout.gpus, layout.pp, layout.dcp))


def tensor_sizes(shape: ModelShape, most: int) -> Iterator[int]:
    """The tensor-parallel sizes up to `most`.

    They divide the attention heads (ModelConfig.verify_with_parallel_config, config/model.py); the
    KV heads are divided, or each is held by as many ranks as any other (QKVParallelLinear,
    model_executor/layers/linear.py); and each rank has an equal part of the MLP and of the padded
    vocabulary (`divide` in the same layers).
    """
    for tp in range(1, min(most, shape.heads) + 1):
        heads, kv = shape.heads % tp == 0, shape.kv_heads % tp == 0 or tp % shape.kv_heads == 0
        rest = shape.intermediate % tp == 0 and shape.padded_vocabulary % tp == 0
        if heads and kv and rest:
            yield tp


def context_sizes(shape: ModelShape, tp: int) -> Iterator[int]:
    """The decode-context-parallel sizes at a tensor-parallel size of this model.

    Above 1 they need more ranks than KV heads, are at most their ratio and divide the query heads
    of a KV head (ModelConfig.verify_with_parallel_config) and the ranks
    (ParallelConfig's validator, config/parallel.py), and no layer has a sliding window
    (SlidingWindowSpec.max_memory_usage_bytes, v1/kv_cache_interface.py). They also divide the
    ratio, from which the rest follows: vLLM does not check it, but the ranks of a group are
    neighbours (initialize_model_parallel, distributed/parallel_state.py) and have to hold the same
    KV head.
    """
    yield 1
    if tp <= shape.kv_heads or any(shape.windows):
        return
    copies = tp // shape.kv_heads
    for dcp in range(2, copies + 1):
        if copies % dcp == 0:
            yield dcp


def stages(layers: int, pp: int) -> list[range]:
    """The layers of each pipeline stage; they need not divide evenly.

    get_pp_indices (distributed/utils.py): a remainder goes, one layer each, to the stages before
    the last, from the end.
    """
    counts = [layers // pp] * pp
    for index in range(layers % pp):
        counts[-2 - index] += 1
    starts = [sum(counts[:index]) for index in range(pp)]
    return [range(start, start + count) for start, count in zip(starts, counts, strict=True)]


def _stages_at_most(cluster: Cluster, tp: int) -> int:
    if cluster.per_node % tp:
        return cluster.per_node // tp
    return cluster.gpus // tp
