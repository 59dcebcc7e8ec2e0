"""Safetensors files: headers, hashes, and whether a model directory is complete.

transformers loads model.safetensors or the shards that model.safetensors.index.json lists. It fills
tensors that a shard lacks with random numbers and only warns about them.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import strict_json

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"(?P<name>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.safetensors")


class Tensor(NamedTuple):
    """A tensor as the header describes it; `dtype` is safetensors' name, such as BF16."""

    dtype: str
    shape: tuple[int, ...]


def header(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file by name.

    Raises UsageError, naming the file, if it is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: Tensor(tensor.get_dtype(), tuple(tensor.get_shape()))
                for name, tensor in slices.items()
            }
    except SafetensorError as error:
        raise UsageError(f"{path}: is not a safetensors file that can be read: {error}.") from None


def sha256(paths: Sequence[Path]) -> str:
    """One SHA-256 over the files, in the given order.

    A process hashes files of many gigabytes only once, unless their size or modification time
    changes.
    """
    stats = [path.stat() for path in paths]
    return _sha256(tuple((p, s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)))


@lru_cache
def _sha256(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, *_ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def check(model_dir: Path, paths: Sequence[Path]) -> None:
    """Raise UsageError, naming the file, if `paths` are shards of a model but not all of them.

    Reads the index and the shards' headers. Raises FactorFileError if the index cannot be read.
    """
    if (model_dir / WHOLE).exists():
        return
    index = model_dir / INDEX
    if index.exists():
        for name, tensors in _shards(index).items():
            _check_shard(model_dir / name, tensors)
    elif shard := next((path for path in paths if SHARD.fullmatch(path.name)), None):
        raise UsageError(
            f"{index}: is missing; {shard.name} is one file of several, and the index says which "
            "tensors are in which."
        )


def _shards(index: Path) -> dict[str, set[str]]:
    """The names of the tensors in each shard, by the shard's file name."""
    document: Any = strict_json.read(index)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UsageError(f"{index}: has no weight_map from tensors to files.")
    shards: dict[str, set[str]] = {}
    for tensor, name in places.items():
        shards.setdefault(name, set()).add(tensor)
    return shards


def _check_shard(path: Path, tensors: set[str]) -> None:
    if not path.exists():
        raise UsageError(f"{path}: is missing; {INDEX} names it as a part of the model.")
    if missing := tensors - header(path).keys():
        raise UsageError(
            f"{path}: lacks the tensor {min(missing)}, which {INDEX} says is in it: it is a part "
            "of another model."
        )
