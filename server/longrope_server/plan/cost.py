"""What a prompt and a token cost: operations, memory traffic and working memory."""

from longrope_server.plan.gpus import GIB, Cluster
from longrope_server.plan.kv_cache import KvCache
from longrope_server.plan.layouts import Layout
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import PLAIN_BYTES, Weights

MOST_SEQUENCES = 256
# The two arrays of a model runner that have room for all sequences at their longest, on the host:
# int32 token ids and, on Model Runner V1, a byte for each that says whether it is one
# (InputBatch, v1/worker/gpu_input_batch.py; RequestState, v1/worker/gpu/states.py).
HOST_BYTES_PER_TOKEN = 5
HOST_BUDGET = GIB
# What a GPU's memory goes to beside weights, cache and activations: the CUDA context, kernels'
# workspaces and CUDA graphs; with several GPUs the buffers of their communication too. Rough.
RESERVED_BYTES = GIB
RESERVED_BYTES_OF_COMMUNICATION = GIB


def linear_flops(weights: Weights, tokens: int) -> int:
    """Operations of a prompt's linear layers: 2 for each weight and token, the last one's output.

    Only the last token of a prompt is projected to the vocabulary.
    """
    layers = weights.shape.layers * weights.linear(1)
    return 2 * tokens * layers + 2 * weights.output_parameters


def attention_flops(shape: ModelShape, tokens: int) -> int:
    """Operations of a prompt's attention, the causal half: token n sees n of them, or its window.

    2 for each of query times key and weight times value, in each head and dimension.
    """
    seen = sum(_seen(tokens, min(window or tokens, tokens)) for window in shape.windows)
    return 4 * shape.heads * shape.head_dim * seen


def prefill_seconds(flops: int, cluster: Cluster, layout: Layout, utilisation: float) -> float:
    """Seconds for so many operations at that share of the GPUs' peak, spread evenly over them."""
    return flops / (layout.gpus * cluster.gpu.flops * utilisation)


def decode_bytes(weights: Weights, cache: KvCache, tokens: int, layout: Layout) -> int:
    """Bytes that the GPUs one token passes through, one of each stage, read for it.

    Weights and cache, each once. Stages wait for one another, the ranks of a stage do not.
    """
    return weights.read_bytes(layout.tp) + cache.read_bytes(tokens, layout.tp, layout.dcp)


def activation_bytes(shape: ModelShape, chunk: int, tp: int) -> int:
    """Working memory of a step with `chunk` tokens on one of `tp` ranks. Rough.

    Two hidden states and the widest layer's input and output, in 2 bytes each; and, for
    MOST_SEQUENCES sequences, four copies of the logits in float32.
    """
    mlp = 3 * shape.intermediate
    attention = (3 * shape.heads + 2 * shape.kv_heads) * shape.head_dim
    wide = max(mlp, attention) // tp
    return PLAIN_BYTES * chunk * (2 * shape.hidden + wide) + 16 * MOST_SEQUENCES * shape.vocabulary


def reserved_bytes(layout: Layout) -> int:
    """Memory of a GPU that goes neither to the model nor to its cache. Rough."""
    return RESERVED_BYTES + (RESERVED_BYTES_OF_COMMUNICATION if layout.gpus > 1 else 0)


def sequences(tokens: int) -> int:
    """A --max-num-seqs for a served length: a power of two within HOST_BUDGET, at most 256."""
    most = HOST_BUDGET // (tokens * HOST_BYTES_PER_TOKEN)
    return min(MOST_SEQUENCES, 1 << max(0, most.bit_length() - 1))


def host_bytes(tokens: int) -> int:
    """Memory of the host for the token ids of that many sequences of that length."""
    return sequences(tokens) * tokens * HOST_BYTES_PER_TOKEN


def _seen(tokens: int, window: int) -> int:
    """The sum of min(n, window) for n from 1 to `tokens`."""
    return window * (window + 1) // 2 + (tokens - window) * window
