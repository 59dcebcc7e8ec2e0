"""Read the results files of any kinds of evaluations for one report."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """The results, each once, with what tells them apart added to `method`.

    That is model, weights, tokenizer, dtype, window, form, filler or the number of facts if they
    differ, and the fingerprint of a factor set if there are several of one name at one length.
    """
    results = list(
        {
            (result.key, result.tokenizer_sha256, result.method): result for result in results
        }.values()
    )
    values: dict[str, set[str]] = defaultdict(set)
    for result in results:
        for name, value in _marks(result).items():
            values[name].add(value)
    tells = {name for name, some in values.items() if len(some) > 1}
    if len(values["model"]) == len(values["weights"]):
        tells.discard("weights")
    for name in ("form", "facts"):
        if len(values[name] - {""}) < 2:
            tells.discard(name)  # results of other kinds have none
    if not _tokenizers_differ(results):
        tells.discard("tokenizer")
    if not _fillers_differ(results):
        tells.discard("filler")
    fingerprints: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for result in results:
        fingerprints[_place(result)].add(result.fingerprint)

    def method(result: Result) -> str:
        marks = [value for name, value in _marks(result).items() if name in tells and value]
        if len(fingerprints[_place(result)]) > 1:
            marks.append(f"set {result.fingerprint[:8]}")
        return f"{result.method} ({', '.join(marks)})" if marks else result.method

    return Measured([result.model_copy(update={"method": method(result)}) for result in results])


def _tokenizers_differ(results: Sequence[Result]) -> bool:
    """Whether the same weights had several tokenizers; other models have their own."""
    tokenizers: dict[str, set[str]] = defaultdict(set)
    for result in results:
        if result.tokenizer_sha256 is not None:
            tokenizers[result.weights_sha256].add(result.tokenizer_sha256)
    return any(len(some) > 1 for some in tokenizers.values())


def _fillers_differ(results: Sequence[Result]) -> bool:
    """Whether a task had several fillers; those of the tasks of one run differ: some have none."""
    fillers: dict[str, set[str | None]] = defaultdict(set)
    for result in results:
        if isinstance(result, Asking):
            fillers[result.task].add(result.filler_sha256)
    return any(len(some) > 1 for some in fillers.values())


def _place(result: Result) -> tuple[Any, ...]:
    """Where one method has one factor set."""
    return (result.method, result.length, *_marks(result).values())


def _marks(result: Result) -> dict[str, str]:
    tokenizer = window = form = filler = facts = ""
    if result.tokenizer_sha256 is not None:
        tokenizer = f"tokenizer {result.tokenizer_sha256[:8]}"
    if isinstance(result, Asking):
        form = f"{result.form} form"
        filler = f"books {result.filler_sha256[:8]}" if result.filler_sha256 else ""
        facts = f"{result.facts} facts"
    if isinstance(result, Evaluation) and result.window < result.length:
        window = f"window {result.window:,}, stride {result.stride:,}"
    return {
        "model": result.model,
        "weights": f"weights {result.weights_sha256[:8]}",
        "tokenizer": tokenizer,
        "dtype": result.dtype,
        "window": window,
        "form": form,
        "filler": filler,
        "facts": facts,
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
