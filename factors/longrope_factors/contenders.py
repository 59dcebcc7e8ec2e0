"""What an evaluation compares: methods and factor files, each with its set for any length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from longrope_factors import hf, methods
from longrope_factors.base import Base
from longrope_factors.schema import FactorFile, FactorSet, Method

OWN = "own"


@dataclass(frozen=True)
class Contender:
    """A name for tables and plots, and the factor set that serves a sequence of a length.

    `factor_set` raises ValueError for a length that it has no set for.
    """

    name: str
    factor_set: Callable[[int], FactorSet]


def contenders(
    model_dir: Path, base: Base, names: Sequence[str], files: Sequence[Path]
) -> list[Contender]:
    """The analytic methods `names`, or "own" among them, then the factor `files`.

    A method has one set for each length, the model's own rotation up to the original length, and
    beyond it what goes on from that: of a longrope model, from its short list. A file and the
    model's own longrope config have what they select for it. A file is called by its name, or
    its path where two have the same. Raises ValueError where there is nothing to compare, for an
    unknown method and for a file that does not fit the model; a contender does for a set with an
    adapter.
    """
    if not names and not files:
        raise ValueError("Nothing to evaluate: give --method, --factors or both.")
    found = []
    for name in names:
        if name == OWN:
            own = hf.from_config(hf.read_config(model_dir), model_dir)
            found.append(Contender(OWN, partial(_selected, own, model_dir)))
        else:
            found.append(Contender(name, partial(_analytic, methods.named(name), base)))
    file_names = [path.name for path in files]
    for path in files:
        factor_file = base.load(path)
        unique = file_names.count(path.name) == 1
        name = path.name if unique else str(path)
        found.append(Contender(name, partial(_selected, factor_file, path)))
    return found


def _analytic(method: Method, base: Base, length: int) -> FactorSet:
    # Within the original length there is nothing to extend: there, every method is the original.
    return base.factor_set(method, max(length, base.identity.original_max_position_embeddings))


def _selected(factor_file: FactorFile, source: Path, length: int) -> FactorSet:
    try:
        found = factor_file.sets[factor_file.select(length)]
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if found.adapter is not None:
        raise ValueError(
            f"{source}: the set of {found.max_length} tokens has an adapter; evaluation measures a "
            "model's own weights, so --model should be one with the adapter merged, and its sets "
            "without one."
        )
    return found
