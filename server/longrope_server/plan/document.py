"""A plan: the numbers that are printed, and the same as JSON."""

from dataclasses import dataclass

from longrope_server.plan.layouts import Layout
from longrope_server.plan.serve_line import Line


@dataclass(frozen=True)
class Placement:
    """One request of a given length on the GPUs of a plan.

    spare_bytes: left on the fullest GPU beside the request. decode_bytes: read for one token by one
    GPU of each stage. host_bytes: of the host's memory, for each GPU. prefill_seconds and
    decode_milliseconds: None if the GPU's speed is not known.
    """

    layout: Layout
    requests_at_once: int
    spare_bytes: int
    prefill_seconds: float | None
    decode_bytes: int
    decode_milliseconds: float | None
    max_num_seqs: int
    host_bytes: int
    commands: list[Line]


@dataclass(frozen=True)
class Length:
    """One request of `tokens` tokens: its cache on all GPUs together and its prompt's operations.

    placed: None without a GPU, and if the request does not fit; does_not_fit then says what would
    hold it.
    """

    tokens: int
    factor_set: bool
    kv_bytes: int
    linear_flops: int
    attention_flops: int
    placed: Placement | None
    does_not_fit: str | None


@dataclass(frozen=True)
class FewestGpus:
    """The fewest GPUs of one kind that hold one request of the served length.

    layout: None if no number of them does.
    """

    gpu: str
    layout: Layout | None


@dataclass(frozen=True)
class GpuPlan:
    """The GPUs that were named, and what is assumed of each."""

    name: str
    per_node: int
    nodes: int
    memory_bytes: int
    memory_share: float
    tflops: float | None
    gigabytes_per_second: float | None
    utilisation: float
    max_num_batched_tokens: int
    activation_bytes: int
    reserved_bytes: int


@dataclass(frozen=True)
class Plan:
    """Everything that `longrope plan` says; notes are sentences.

    adapter_bytes: what a single GPU with the whole model holds for adapters.
    """

    model: str
    architecture: str
    parameters: int
    weight_bytes: int
    weights_assumed: str
    adapter_slots: int
    adapter_rank: int
    adapter_bytes: int
    kv_dtype: str
    kv_bytes_per_token: int
    sliding_window: int | None
    windowed_layers: int
    layers: int
    served_tokens: int
    lengths: list[Length]
    gpu: GpuPlan | None
    max_tokens_that_fit: int | None
    fewest: list[FewestGpus]
    notes: list[str]

    @property
    def served(self) -> Length:
        """The length that the model would be served at."""
        return next(length for length in self.lengths if length.tokens == self.served_tokens)
