"""What a prompt and a token cost: operations, memory traffic and working memory."""

from longrope_server.plan.gpus import GIB, Gpu
from longrope_server.plan.kv_cache import KvCache
from longrope_server.plan.layouts import Layout
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import PLAIN_BYTES, Weights

MOST_SEQUENCES = 256
# A model runner has two arrays with room for all sequences at their longest, on the host, in the
# process of each GPU: int32 token ids and, on Model Runner V1, one byte for each place that says
# whether it holds a token id (InputBatch, v1/worker/gpu_input_batch.py; RequestState,
# v1/worker/gpu/states.py).
HOST_BYTES_PER_TOKEN = 5
HOST_BUDGET = GIB

# What vLLM subtracts from its share of a GPU in addition to weights and activations: CUDA graphs,
# the kernels that were loaded and their workspaces, the runner's own tensors. vLLM measures it
# (Worker.determine_available_memory); here it is assumed. docs/planning.md has all assumptions in
# one table.
RESERVED_BYTES = GIB
# With several GPUs also: what NCCL opens when it is first used, all-reduce's buffers, and the parts
# of activations that tensor parallelism does not divide.
RESERVED_BYTES_OF_COMMUNICATION = GIB
# Outside of that share: the CUDA context and, with several GPUs, NCCL's first buffers. They are
# there before the worker looks at the free memory (Worker.init_device), and it refuses to start if
# less than its share is free (request_memory, v1/worker/utils.py).
OUTSIDE_BYTES = GIB // 2
OUTSIDE_BYTES_OF_COMMUNICATION = GIB // 2


def linear_flops(weights: Weights, tokens: int) -> int:
    """Operations of a prompt's linear layers and output: 2 for each weight and token.

    Of experts, those that the token passes. Only the last token of a prompt is projected to the
    vocabulary.
    """
    layers = sum(weights.active(1, layer) for layer in range(weights.shape.layers))
    return 2 * tokens * layers + 2 * weights.output_parameters


def attention_flops(shape: ModelShape, tokens: int) -> int:
    """Operations of a prompt's attention, the causal half: token n sees n tokens, or its window.

    In each head and dimension, 2 for query times key and 2 for weight times value. Linear attention
    takes the same for every token.
    """
    windows = [shape.windows[layer] for layer in shape.attention_layers]
    seen = sum(_seen(tokens, min(window or tokens, tokens)) for window in windows)
    linear = sum(shape.linear.layers) * shape.linear.flops(tokens) if shape.linear else 0
    return 4 * shape.heads * shape.head_dim * seen + linear


def prefill_seconds(flops: int, gpu: Gpu, layout: Layout, utilisation: float) -> float | None:
    """Seconds for these operations at that share of the GPUs' peak, spread evenly over them.

    None for a kind whose peak is not known.
    """
    return None if gpu.flops is None else flops / (layout.gpus * gpu.flops * utilisation)


def decode_milliseconds(read: int, gpu: Gpu) -> float | None:
    """Milliseconds to read so many bytes; None for a kind whose memory speed is not known."""
    return None if gpu.bandwidth is None else 1000 * read / gpu.bandwidth


def decode_bytes(weights: Weights, cache: KvCache, tokens: int, layout: Layout) -> int:
    """Bytes that are read for one token by the GPUs that it passes through, one of each stage.

    Weights and cache are each read once. Stages wait for one another, but the ranks of a stage do
    not.
    """
    return weights.read_bytes(layout.tp) + cache.read_bytes(tokens, layout.tp, layout.dcp)


def activation_bytes(shape: ModelShape, chunk: int, tp: int) -> int:
    """Working memory of a step with `chunk` tokens on one of `tp` ranks. Rough.

    Two hidden states and the widest layer's input and output, in 2 bytes each, and four copies of
    the logits of MOST_SEQUENCES sequences, in float32: the most that is alive at once in the
    runner's profile_run (v1/worker/gpu/model_runner.py).
    """
    mlp = 3 * shape.intermediate
    if experts := shape.experts:
        mlp = max(mlp, 3 * (experts.chosen * experts.width + experts.shared))
    attention = (3 * shape.heads + 2 * shape.kv_heads) * shape.head_dim
    wide = max(mlp, attention) // tp
    return PLAIN_BYTES * chunk * (2 * shape.hidden + wide) + 16 * MOST_SEQUENCES * shape.vocabulary


def reserved_bytes(layout: Layout) -> int:
    """Memory within vLLM's share of a GPU, apart from weights, activations and cache. Rough."""
    return RESERVED_BYTES + (RESERVED_BYTES_OF_COMMUNICATION if layout.gpus > 1 else 0)


def outside_bytes(gpus: int) -> int:
    """Memory of each of `gpus` GPUs that is taken before vLLM asks for its share. Rough."""
    return OUTSIDE_BYTES + (OUTSIDE_BYTES_OF_COMMUNICATION if gpus > 1 else 0)


def sequences(tokens: int) -> int:
    """A --max-num-seqs for a served length: a power of two within HOST_BUDGET, at most 256.

    vLLM's own default is 256 to 1,024, depending on the kind of GPU.
    """
    most = HOST_BUDGET // (tokens * HOST_BYTES_PER_TOKEN)
    return min(MOST_SEQUENCES, 1 << max(0, most.bit_length() - 1))


def host_bytes(tokens: int) -> int:
    """The host's memory for the token ids of that many sequences, in the process of each GPU."""
    return sequences(tokens) * tokens * HOST_BYTES_PER_TOKEN


def _seen(tokens: int, window: int) -> int:
    """The sum of min(n, window) for n from 1 to `tokens`."""
    return window * (window + 1) // 2 + (tokens - window) * window
