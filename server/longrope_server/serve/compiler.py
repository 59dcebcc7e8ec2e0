"""Whether a CPU's model can be compiled: PyTorch needs a C++ compiler for that."""

import os
import shutil
from collections.abc import Mapping

FLAG = "--enforce-eager"


def chosen(words: list[str], environment: Mapping[str, str]) -> tuple[list[str], str | None]:
    """The words for `vllm serve` that leave compilation out, and a sentence about it.

    words: the model and vLLM's flags. Nothing is added where there is a compiler, or where the
    user chose eager execution already.
    """
    name = environment.get("CXX") or "g++"
    path = environment.get("PATH", os.defpath)
    if shutil.which(name, path=path) or FLAG in words:
        return [], None
    return [FLAG], (
        f"There is no C++ compiler {name} on PATH, so the model is not compiled ({FLAG}) and "
        "answers more slowly: install g++, or set CXX."
    )
