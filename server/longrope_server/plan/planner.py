"""Computes a plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from longrope_server.plan import attention, cost, serve_line
from longrope_server.plan.cautions import about_the_model, cautions
from longrope_server.plan.document import FewestGpus, GpuPlan, Length, Placement, Plan
from longrope_server.plan.fitting import USUAL_NODE, Fitting, what_would
from longrope_server.plan.gpus import GPUS, Cluster
from longrope_server.plan.layouts import Layout
from longrope_server.plan.serve_line import Served

TWO_MILLION = 2_097_152
CHUNK = 2048  # vLLM's --max-num-batched-tokens on most kinds, for a plan without a GPU


@dataclass(frozen=True)
class Planner:
    """What a plan is made from: the model, the length to serve, the GPUs if they are named.

    utilisation: the share of a GPU's peak (0 to 1) that a prompt is assumed to reach.
    """

    served: Served
    fitting: Fitting
    served_tokens: int
    cluster: Cluster | None
    utilisation: float

    def plan(self, set_lengths: Sequence[int]) -> Plan:
        """The plan at each factor set's length, the served one and two million tokens."""
        shape, cache, weights = self.fitting.weights.shape, self.fitting.cache, self.fitting.weights
        windows = [window for window in shape.windows if window is not None]
        lengths = sorted({*set_lengths, self.served_tokens, TWO_MILLION})
        return Plan(
            model=self.served.model,
            architecture=shape.architecture,
            parameters=weights.parameters,
            weight_bytes=weights.total_bytes,
            weights_assumed=weights.precision.assumed,
            adapter_slots=self.fitting.adapters.slots,
            adapter_rank=self.fitting.adapters.rank,
            adapter_bytes=sum(self.fitting.adapters.stage_bytes(Layout(tp=1, pp=1, dcp=1))),
            kv_dtype=self.served.kv_dtype,
            kv_bytes_per_token=cache.bytes_per_token,
            layers=shape.layers,
            sliding_window=windows[0] if windows else None,
            windowed_layers=len(windows),
            served_tokens=self.served_tokens,
            lengths=[self._length(tokens, tokens in set_lengths) for tokens in lengths],
            gpu=self._gpu(self.cluster) if self.cluster else None,
            max_tokens_that_fit=self.fitting.longest_on(self.cluster) if self.cluster else None,
            fewest=[] if self.cluster else self._fewest(),
            notes=[
                *about_the_model(shape),
                *(
                    cautions(self.fitting, self.served.kv_dtype, self.cluster)
                    if self.cluster
                    else ()
                ),
            ],
        )

    def _length(self, tokens: int, factor_set: bool) -> Length:
        weights, cache, cluster = self.fitting.weights, self.fitting.cache, self.cluster
        chunk = cluster.gpu.chunk if cluster else CHUNK
        layout = self.fitting.best(cluster, tokens) if cluster else None
        return Length(
            tokens=tokens,
            factor_set=factor_set,
            kv_bytes=cache.request_bytes(tokens, in_flight=2 * chunk),
            linear_flops=cost.linear_flops(weights, tokens),
            attention_flops=cost.attention_flops(weights.shape, tokens),
            placed=self._placed(cluster, layout, tokens) if cluster and layout else None,
            does_not_fit=(
                what_would(self.fitting, cluster, tokens) if cluster and not layout else None
            ),
        )

    def _placed(self, cluster: Cluster, layout: Layout, tokens: int) -> Placement:
        weights, cache, gpu = self.fitting.weights, self.fitting.cache, cluster.gpu
        flops = cost.linear_flops(weights, tokens) + cost.attention_flops(weights.shape, tokens)
        read = cost.decode_bytes(weights, cache, tokens, layout)
        seqs = cost.sequences(tokens)
        room = self.fitting.blocks(gpu, layout)
        return Placement(
            layout=layout,
            requests_at_once=min(seqs, room // self.fitting.request_blocks(gpu, layout, tokens)),
            spare_bytes=self.fitting.spare(gpu, layout, tokens),
            prefill_seconds=cost.prefill_seconds(flops, gpu, layout, self.utilisation),
            decode_bytes=read,
            decode_milliseconds=cost.decode_milliseconds(read, gpu),
            max_num_seqs=seqs,
            host_bytes=cost.host_bytes(tokens),
            # `longrope serve` refuses a length beyond the largest factor set.
            commands=(
                serve_line.lines(self.served, cluster, layout, tokens)
                if tokens <= self.served_tokens
                else []
            ),
        )

    def _gpu(self, cluster: Cluster) -> GpuPlan:
        gpu = cluster.gpu
        return GpuPlan(
            name=gpu.name,
            per_node=cluster.per_node,
            nodes=cluster.nodes,
            memory_bytes=gpu.memory_bytes,
            memory_share=self.fitting.memory_share,
            tflops=gpu.tflops,
            gigabytes_per_second=gpu.gigabytes_per_second,
            utilisation=self.utilisation,
            max_num_batched_tokens=gpu.chunk,
            activation_bytes=cost.activation_bytes(self.fitting.weights.shape, gpu.chunk, tp=1),
            reserved_bytes=cost.reserved_bytes(Layout(tp=1, pp=1, dcp=1)),
        )

    def _fewest(self) -> list[FewestGpus]:
        """The fewest GPUs of each kind, in machines of the usual size.

        A tensor-parallel group is at most as large as a machine.
        """
        return [
            FewestGpus(gpu.name, self.fitting.fewest(gpu, USUAL_NODE, self.served_tokens))
            for gpu in GPUS
            if self.fitting.cache.element_bytes > 1 or attention.has_fp8_cache(gpu)
        ]
