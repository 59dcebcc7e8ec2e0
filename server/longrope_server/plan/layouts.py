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

    The best layout has the fewest GPUs. Among those it has the least pipeline parallelism, because
    tensor parallelism makes each token faster, and then the least decode-context parallelism, which
    costs communication. Tensor parallelism stays within a machine. On several machines its size
    divides the number of GPUs in each, because Ray fills one machine after the other.
    """
    layouts = [
        Layout(tp, pp, dcp)
        for tp in tensor_sizes(shape, cluster.per_node)
        for pp in range(1, min(shape.layers, _stages_at_most(cluster, tp)) + 1)
        for dcp in context_sizes(shape, tp)
    ]
    return sorted(layouts, key=lambda layout: (layout.gpus, layout.pp, layout.dcp))


def tensor_sizes(shape: ModelShape, most: int) -> Iterator[int]:
    """The tensor-parallel sizes up to `most`.

    They divide the attention heads (ModelConfig.verify_with_parallel_config, config/model.py). They
    divide the KV heads or are a multiple of them, so that every KV head is held by the same number
    of ranks (QKVParallelLinear, model_executor/layers/linear.py). Each rank has an equal part of
    the MLP, of each expert, of the heads of linear attention and of the padded vocabulary (`divide`
    in the same layers).
    """
    for tp in range(1, min(most, shape.heads) + 1):
        heads, kv = shape.heads % tp == 0, shape.kv_heads % tp == 0 or tp % shape.kv_heads == 0
        rest = all(part % tp == 0 for part in (*shape.widths, shape.padded_vocabulary))
        if heads and kv and rest:
            yield tp


def context_sizes(shape: ModelShape, tp: int) -> Iterator[int]:
    """The decode-context-parallel sizes at a tensor-parallel size of this model.

    A size above 1 needs more ranks than KV heads and is at most their ratio. It divides the query
    heads of a KV head (ModelConfig.verify_with_parallel_config) and the ranks (ParallelConfig's
    validator, config/parallel.py). No layer may have a sliding window
    (SlidingWindowSpec.max_memory_usage_bytes, v1/kv_cache_interface.py) or linear attention, whose
    state every rank has. The size also divides the
    ratio, from which the other divisions follow. vLLM does not check that, but the ranks of a group
    are neighbours (initialize_model_parallel, distributed/parallel_state.py) and have to hold the
    same KV head.
    """
    yield 1
    if tp <= shape.kv_heads or any(shape.windows) or shape.linear:
        return
    copies = tp // shape.kv_heads
    for dcp in range(2, copies + 1):
        if copies % dcp == 0:
            yield dcp


def stages(layers: int, pp: int) -> list[range]:
    """The layers of each pipeline stage; the stages need not be equal.

    As in get_pp_indices (distributed/utils.py), the layers of a remainder go one each to the stages
    before the last, from the end.
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
