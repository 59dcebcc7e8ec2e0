"""Read the results files of any kinds of evaluations for one report."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longrope_factors.evaluating import results
from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.results import R, Result
from longrope_factors.evaluating.retrieval.results import Asking
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import json_lines

# The kinds of results, by a field that no other kind has.
_KINDS: dict[str, type[Result]] = {
    "perplexity": Evaluation,
    "pass_key": Retrieval,
    "task": Asking,
}


@dataclass(frozen=True)
class Measured:
    """Results whose `method` also says what distinguishes the runs they are from."""

    results: Sequence[Result]

    def of(self, kind: type[R]) -> list[R]:
        """The results of one kind."""
        return [result for result in self.results if isinstance(result, kind)]

    @property
    def methods(self) -> list[str]:
        """The methods that were compared, in the order of the files."""
        return list(dict.fromkeys(result.method for result in self.results))


def read(paths: Sequence[Path]) -> list[Result]:
    """The results of `evaluate perplexity`, `passkey` and `retrieval` in these files.

    Raises UsageError, naming the file, if one is missing, empty or has anything else in it.
    """
    return [result for path in paths for result in results.read(path, _kind(path))]


def told_apart(results: Sequence[Result]) -> Measured:
    """The results, with model, weights, dtype, form or window added to `method` if they differ."""
    values: dict[str, set[str]] = defaultdict(set)
    for result in results:
        for name, value in _marks(result).items():
            values[name].add(value)
    tells = {name for name, some in values.items() if len(some) > 1}
    if len(values["model"]) == len(values["weights"]):
        tells.discard("weights")
    if len(values["form"] - {""}) < 2:
        tells.discard("form")  # results of other kinds have none

    def method(result: Result) -> str:
        marks = [value for name, value in _marks(result).items() if name in tells and value]
        return f"{result.method} ({', '.join(marks)})" if marks else result.method

    return Measured([result.model_copy(update={"method": method(result)}) for result in results])


def _marks(result: Result) -> dict[str, str]:
    window = ""
    if isinstance(result, Evaluation) and result.window < result.length:
        window = f"window {result.window:,}, stride {result.stride:,}"
    return {
        "model": result.model,
        "weights": f"weights {result.weights_sha256[:8]}",
        "dtype": result.dtype,
        "form": f"{result.form} form" if isinstance(result, Asking) else "",
        "window": window,
    }


def _kind(path: Path) -> type[Result]:
    lines = json_lines.whole(path)
    if not lines:
        raise UsageError(f"{path}: has no results of an evaluation.")
    try:
        first = json.loads(lines[0])
    except ValueError:
        first = None
    if isinstance(first, dict):
        for field, kind in _KINDS.items():
            if field in first:
                return kind
    raise UsageError(
        f"{path}: is not a results file of `evaluate perplexity`, `passkey` or `retrieval`."
    )
