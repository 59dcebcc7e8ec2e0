"""The dtype with which a CPU computes prompts faster."""

from collections.abc import Mapping
from typing import Any

from longrope_server.serve import embedded
from longrope_server.serve.arguments import Arguments

FLAG = "dtype"
# Instructions that multiply bfloat16, as `torch.cpu.get_capabilities` names them. Without any of
# them, products are computed in float32.
MULTIPLY_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


def chosen(words: list[str], capabilities: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """The words for `vllm serve` that choose a dtype, and a sentence about it.

    words: the model and vLLM's flags. A dtype that the user chose, there or in the --config file,
    stays. So does that of a model other than the embedded one; the sentence then gives advice.
    """
    if not lacks_bfloat16(capabilities) or Arguments(words).peek(FLAG) is not None:
        return [], None
    lacking = "This CPU has no instructions for bfloat16"
    if embedded.is_embedded(words[0]):
        return [f"--{FLAG}", "float32"], f"{lacking}: --{FLAG} is float32, faster for prompts."
    return [], f"{lacking}: with --{FLAG} float32, in twice the memory, prompts would be faster."


def lacks_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    """Whether this CPU is known to multiply bfloat16 by way of float32.

    capabilities: those of `torch.cpu.get_capabilities`, which asks the hardware. If they do not say
    anything about this kind of CPU, the result is False.
    """
    told = [capabilities[name] for name in MULTIPLY_BFLOAT16 if name in capabilities]
    return bool(told) and not any(told)
