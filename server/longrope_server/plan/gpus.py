"""The kinds of GPU that a plan knows, and clusters of them."""

import re
from dataclasses import dataclass

from longrope_server.errors import UsageError

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU: its memory, its speed with bfloat16 (dense), and its memory's speed.

    chunk: vLLM's own default of --max-num-batched-tokens for a server on it
    (EngineArgs.get_batch_defaults, engine/arg_utils.py). capability: CUDA's compute capability,
    None for AMD's GPUs. For a kind that the user names only by its memory, speeds and capability
    are None.
    """

    name: str
    memory_gib: float
    tflops: float | None
    gigabytes_per_second: float | None
    chunk: int
    capability: float | None
    cuda: bool = True

    @property
    def memory_bytes(self) -> int:
        """Memory that a program sees."""
        return int(self.memory_gib * GIB)

    @property
    def flops(self) -> float | None:
        """The most floating-point operations a second; None if not known."""
        return None if self.tflops is None else self.tflops * 1e12

    @property
    def bandwidth(self) -> float | None:
        """The most bytes a second from its memory; None if not known."""
        return None if self.gigabytes_per_second is None else self.gigabytes_per_second * 1e9


@dataclass(frozen=True)
class Cluster:
    """Machines with the same number of GPUs of one kind."""

    gpu: Gpu
    per_node: int
    nodes: int

    @property
    def gpus(self) -> int:
        """How many GPUs there are."""
        return self.per_node * self.nodes


# Speeds: the makers' data sheets ("without sparsity"; the SXM form where there are several; the T4
# has no bfloat16 and its number is that of float16). Memory: the total that CUDA or HIP reports,
# which is a little less than a data sheet's round number. Ascending by memory.
GPUS = (
    Gpu("T4", 14.6, 65, 300, 2048, 7.5),
    Gpu("L4", 22.0, 121, 300, 2048, 8.9),
    Gpu("A10", 22.0, 125, 600, 2048, 8.6),
    Gpu("A100-40", 39.4, 312, 1555, 2048, 8.0),
    Gpu("L40S", 44.4, 362, 864, 2048, 8.9),
    Gpu("A100-80", 79.1, 312, 2039, 2048, 8.0),
    Gpu("H100", 79.1, 989, 3350, 8192, 9.0),
    Gpu("H200", 139.7, 989, 4800, 8192, 9.0),
    Gpu("B200", 178.3, 2250, 8000, 16384, 10.0),
    Gpu("MI300X", 191.9, 1307, 5300, 16384, None, cuda=False),
)
MEMORY_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)gib", re.IGNORECASE)


def parse(text: str, nodes: int) -> Cluster:
    """The cluster of `nodes` machines that `NAME[:N]` describes: N GPUs each, 1 without N.

    Raises UsageError for anything else.
    """
    name, colon, count = text.partition(":")
    gpu = _kind(name.strip())
    if colon and not (re.fullmatch(r"\d{1,9}", count, re.ASCII) and int(count) > 0):
        raise UsageError(
            f"--gpu is {text!r}; after the colon should be how many a machine has, as in "
            f"{gpu.name}:8."
        )
    return Cluster(gpu, int(count or 1), nodes)


def _kind(name: str) -> Gpu:
    known = {gpu.name.lower(): gpu for gpu in GPUS}
    if (gpu := known.get(name.lower())) is not None:
        return gpu
    if (memory := MEMORY_SIZE.fullmatch(name)) and 0 < float(memory[1]) < 2**20:
        return _by_memory(float(memory[1]))
    raise UsageError(
        f"Unknown GPU {name!r}: known are {', '.join(gpu.name for gpu in GPUS)}; any other is "
        "named by the memory that CUDA reports for it, such as 47.5GiB."
    )


def _by_memory(gib: float) -> Gpu:
    # get_batch_defaults goes by memory alone (and by name for the A100, which is known above).
    chunk = 16384 if gib >= 160 else 8192 if gib >= 70 else 2048
    return Gpu(f"{gib:g}GiB", gib, None, None, chunk, None)
