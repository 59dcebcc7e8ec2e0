"""The dtype with which a CPU computes prompts faster."""

from collections.abc import Mapping
from typing import Any

from longrope_factors.cpu import lacks_bfloat16

from longrope_server.serve import embedded
from longrope_server.serve.arguments import Arguments

FLAG = "dtype"


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
