"""What a CPU can do in hardware."""

from collections.abc import Mapping
from typing import Any

# Instructions that multiply bfloat16, as `torch.cpu.get_capabilities` names them. Without any of
# them, products are computed in float32.
MULTIPLY_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


def lacks_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    """Whether this CPU is known to multiply bfloat16 by way of float32.

    capabilities: those of `torch.cpu.get_capabilities`, which asks the hardware. If they do not say
    anything about this kind of CPU, the result is False.
    """
    told = [capabilities[name] for name in MULTIPLY_BFLOAT16 if name in capabilities]
    return bool(told) and not any(told)
