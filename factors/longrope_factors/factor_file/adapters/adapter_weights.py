"""The tensors of an adapter: one pair of lora_A and lora_B for each linear layer it changes."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from longrope_factors.factor_file import model_directory, weight_files
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.weight_files import Tensor

_NAME = re.compile(r"(base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
_EMBEDDINGS = ("embed_tokens", "lm_head")
_NUMBERS = ("F64", "F32", "F16", "BF16")


def shapes(path: Path, rank: int) -> dict[str, tuple[int, int]]:
    """The shape [out, in] of each module that the weights at `path` are for, by module name.

    Reads only the header. Raises FactorFileError, naming file and tensor, for anything but
    lora_A [rank, in] and lora_B [out, rank] of linear layers, and UsageError if the file is not a
    safetensors file.
    """
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in weight_files.header(path).items():
        place = _NAME.fullmatch(name)
        if place is None or place["module"].rpartition(".")[2] in _EMBEDDINGS:
            raise FactorFileError(
                f"{path}: has the tensor {name}, but vLLM serves only lora_A and lora_B of linear "
                "layers, and no norms, embeddings, output heads or biases."
            )
        if tensor.dtype not in _NUMBERS or len(tensor.shape) != 2:
            raise FactorFileError(
                f"{path}: has {name} as {tensor.dtype} {list(tensor.shape)}; it should be a matrix "
                f"of {', '.join(_NUMBERS)}."
            )
        modules[place["module"]][place["part"]] = tensor
    if not modules:
        raise FactorFileError(f"{path}: has no tensors.")
    return {module: _shape(path, module, parts, rank) for module, parts in modules.items()}


def _shape(path: Path, module: str, parts: Mapping[str, Tensor], rank: int) -> tuple[int, int]:
    if parts.keys() != {"A", "B"}:
        missing = "B" if "A" in parts else "A"
        raise FactorFileError(f"{path}: has no lora_{missing} for {module}.")
    (rows, into), (out, columns) = parts["A"].shape, parts["B"].shape
    if rows != rank or columns != rank:
        raise FactorFileError(
            f"{path}: has lora_A {[rows, into]} and lora_B {[out, columns]} for {module}; at rank "
            f"{rank} they should be {[rank, into]} and {[out, rank]}."
        )
    return out, into


def check_targets(path: Path, targets: Mapping[str, tuple[int, int]], model_dir: Path) -> None:
    """Raise FactorFileError if a module in `targets` is not in the model or has another shape.

    Names are compared from `layers.` on, because a checkpoint's names may begin with other words
    than those of the model that was trained. The shape of quantized weights is unknown and is not
    compared.
    """
    weights: dict[str, list[Tensor]] = defaultdict(list)
    for file in model_directory.weights(model_dir):
        for name, tensor in weight_files.header(file).items():
            module, _, part = _from_its_layer(name).rpartition(".")
            if part != "bias":
                weights[module].append(tensor)
    for module, shape in targets.items():
        tensors = weights.get(_from_its_layer(module))
        if tensors is None:
            raise FactorFileError(f"{path}: is for {module}, which {model_dir} does not have.")
        plain = {tensor.shape for tensor in tensors if tensor.dtype in _NUMBERS}
        if len(tensors) == len(plain) == 1 and shape not in plain:
            raise FactorFileError(
                f"{path}: is for {list(shape)} weights of {module}, but those of {model_dir} are "
                f"{list(*plain)}."
            )


def _from_its_layer(name: str) -> str:
    _, layers, rest = name.partition("layers.")
    return f"{layers}{rest}" if layers else name
