"""What an evaluation compares: methods and factor files, with their sets for any length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from longrope_factors.factor_file import hf, methods, model_directory
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.schema import FactorFile, FactorSet, Method

OWN = "own"


class Served(NamedTuple):
    """A contender's name, with the set and the adapter's folder that serve a sequence."""

    method: str
    factor_set: FactorSet
    adapter: Path | None


@dataclass(frozen=True)
class Contender:
    """A name for tables and plots, and the factor set that serves a sequence of a length.

    `factor_set` raises UsageError for a length that it has no set for. `path` is the factor file
    that has the set; an analytic method has none.
    """

    name: str
    factor_set: Callable[[int], FactorSet]
    path: Path | None = None

    def served(self, length: int) -> Served:
        """How a sequence of `length` tokens is served; raises UsageError as `factor_set` does."""
        factor_set = self.factor_set(length)
        if factor_set.adapter is None:
            return Served(self.name, factor_set, None)
        assert self.path is not None, "an analytic method names no adapter"
        return Served(self.name, factor_set, adapter_files.folder(factor_set.adapter, self.path))


def contenders(
    model_dir: Path, base: Base, names: Sequence[str], files: Sequence[Path]
) -> list[Contender]:
    """The analytic methods in `names`, which may include "own", then the factor `files`.

    A method has one set for each length: up to the original length, the model's own rotation;
    beyond it, an extension of that rotation (of the short list, for a longrope model). A factor
    file and the model's own longrope config serve a length with the set that they select for it. A
    file is called by its name, or by its path if two files have the same name. Raises UsageError if
    there is nothing to compare, for an unknown method, and for files and adapters that do not fit
    the model.
    """
    if not names and not files:
        raise UsageError("Nothing to evaluate: give --method, --factors or both.")
    compared = []
    for name in names:
        if name == OWN:
            config = hf.read_config(model_dir)
            own = hf.from_config(config, model_dir)
            path = model_dir / (hf.named_file(config) or "")
            adapter_files.check(own, path, model_dir)
            compared.append(Contender(OWN, partial(_selected, own, model_dir), path))
        else:
            compared.append(Contender(name, partial(_analytic, methods.named(name), base)))
    file_names = [path.name for path in files]
    for path in files:
        factor_file = base.load(path)
        adapter_files.check(factor_file, path, model_dir)
        unique = file_names.count(path.name) == 1
        name = text_files.readable(path.name if unique else str(path))
        compared.append(Contender(name, partial(_selected, factor_file, path), path))
    return compared


def planned(
    model_dir: Path, names: Sequence[str] | None, files: Sequence[Path] | None, lengths: list[int]
) -> dict[int, list[Served]]:
    """How every contender serves each of `lengths`.

    Raises UsageError as `contenders` and `Contender.served` do.
    """
    compared = contenders(model_dir, model_directory.base_of(model_dir), names or [], files or [])
    return {length: [contender.served(length) for contender in compared] for length in lengths}


def _analytic(method: Method, base: Base, length: int) -> FactorSet:
    # Within the original length there is nothing to extend, so every method is the original.
    return base.factor_set(method, max(length, base.identity.original_max_position_embeddings))


def _selected(factor_file: FactorFile, source: Path, length: int) -> FactorSet:
    try:
        return factor_file.sets[factor_file.select(length)]
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
