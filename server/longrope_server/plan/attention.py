"""What vLLM's attention kernels support on a kind of GPU.

These are the kernels in its wheel: FlashAttention and Triton. FlashInfer's kernels come separately
(`vllm download-kernels`, or a CUDA compiler). A kind whose compute capability is not known is
assumed to support everything.
"""

from longrope_server.errors import UsageError
from longrope_server.plan.gpus import Gpu

FLASH_ATTENTION = 8.0  # FlashAttentionBackend.supports_compute_capability; FlashInfer's is the same
TRITON_FP8 = 8.9  # TritonAttentionImpl (v1/attention/backends/triton_attn.py)
FLASH_ATTENTION_FP8 = 9.0  # flash_attn_supports_kv_cache_dtype (v1/attention/backends/fa_utils.py)


def has_context_parallelism(gpu: Gpu, element_bytes: int) -> bool:
    """Whether decode-context parallelism runs with a cache of elements of this size.

    It needs a kernel that returns the softmax's sum (check_attention_cp_compatibility,
    v1/worker/cp_utils.py). Without MLA, these are FlashAttention and FlashInfer; neither runs on
    AMD's GPUs.
    """
    return gpu.cuda and _has(gpu, FLASH_ATTENTION if element_bytes > 1 else FLASH_ATTENTION_FP8)


def has_fp8_cache(gpu: Gpu) -> bool:
    """Whether a cache in fp8 works without the kernels of FlashInfer."""
    return _has(gpu, TRITON_FP8)


def check(gpu: Gpu, dtype: str, element_bytes: int) -> None:
    """Raises UsageError if no kernel supports a cache of `dtype`, whatever is installed."""
    if _has(gpu, FLASH_ATTENTION):
        return
    if element_bytes == 1 or dtype.startswith("bf"):
        raise UsageError(
            f"--kv-dtype is {dtype!r}, but no attention kernel of vLLM takes such a cache on "
            f"{gpu.name} (compute capability {gpu.capability}): it should be auto or float16."
        )


def _has(gpu: Gpu, capability: float) -> bool:
    return gpu.capability is None or gpu.capability >= capability
