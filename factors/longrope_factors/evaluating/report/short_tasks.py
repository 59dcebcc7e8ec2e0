"""The section on what an extension changed within the model's original window."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.report.measured import Measured
from longrope_factors.evaluating.report.sections import Section, Table
from longrope_factors.evaluating.results import Result
from longrope_factors.evaluating.retrieval import scores
from longrope_factors.evaluating.retrieval.results import Asking
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import strict_json


def section(measured: Measured, lm_eval: tuple[Path, Path] | None) -> Section:
    """The comparison at the shortest length, and lm-eval's results before and after.

    Raises UsageError, naming the file, if one is not a results file of lm-eval or the two have no
    task in common.
    """
    tables = [table for table in (_perplexity(measured), _retrieval(measured)) if table]
    if lm_eval is not None:
        tables.append(_lm_eval(*lm_eval))
    text = (
        "Everything at the shortest length that it was measured at. Changes are against the first "
        "row, on the texts and tasks that both have. Where a row has the same weights and the same "
        "rotation as the first, nothing can have changed."
    )
    return Section("Short texts and tasks", text, tables)


def _perplexity(measured: Measured) -> Table | None:
    evaluations = measured.of(Evaluation)
    if not evaluations:
        return None
    length = min(evaluation.length for evaluation in evaluations)
    here = [evaluation for evaluation in evaluations if evaluation.length == length]
    rows = {}
    for method in measured.methods:
        logs = {
            (evaluation.corpus_sha256, evaluation.window, evaluation.stride): math.log(
                evaluation.perplexity
            )
            for evaluation in here
            if evaluation.method == method
        }
        if logs:
            rows[method] = logs
    cells = _cells(
        here,
        rows,
        lambda mean: f"{math.exp(mean):.2f}",
        lambda change: f"{math.expm1(change):+.2%}",
    )
    return Table(("", "perplexity", "change", ""), cells, f"Perplexity at {length:,} tokens")


def _retrieval(measured: Measured) -> Table | None:
    askings = measured.of(Asking)
    if not askings:
        return None
    length = min(asking.length for asking in askings)
    here = [asking for asking in askings if asking.length == length]
    rows = {}
    for method in measured.methods:
        asked = [asking for asking in here if asking.method == method]
        if asked:
            rows[method] = {
                task: scores.score([asking for asking in asked if asking.task == task]).found
                for task in dict.fromkeys(asking.task for asking in asked)
            }
    cells = _cells(
        here, rows, lambda mean: f"{mean:.0%}", lambda change: f"{100 * change:+.0f} points"
    )
    return Table(("", "facts found", "change", ""), cells, f"Retrieval at {length:,} tokens")


def _cells(
    results: Sequence[Result],
    rows: Mapping[str, Mapping[Any, float]],
    mean: Callable[[float], str],
    change: Callable[[float], str],
) -> list[tuple[str, str, str, str]]:
    """Each method's mean, and its mean change from the first method on what both have, in words."""
    first = next(iter(rows.values()))
    cells = []
    for method, values in rows.items():
        both = values.keys() & first.keys()
        changed = change(_mean([values[key] - first[key] for key in both])) if both else ""
        same = _same(results, rows, method)
        cells.append((method, mean(_mean(values.values())), changed, same))
    return cells


def _mean(values: Collection[float]) -> float:
    return math.fsum(values) / len(values)


def _same(results: Sequence[Result], rows: Mapping[str, Any], method: str) -> str:
    """A note if a method is the first one under another name; empty otherwise."""
    first = next(iter(rows))
    rotations = [
        {(result.weights_sha256, result.fingerprint) for result in results if result.method == name}
        for name in (first, method)
    ]
    return (
        "the same weights and rotation" if method != first and rotations[0] == rotations[1] else ""
    )


def _lm_eval(before: Path, after: Path) -> Table:
    old, new = _scores(before), _scores(after)
    both = [key for key in old if key in new]
    if not both:
        raise UsageError(f"{after}: has no task of {before}, so nothing can be compared.")
    cells = []
    for task, metric in both:
        (was, was_error), (now, now_error) = old[task, metric], new[task, metric]
        error = math.hypot(was_error, now_error)
        cells.append(
            (
                f"{task}, {metric}",
                f"{was:.4f} ± {was_error:.4f}",
                f"{now:.4f} ± {now_error:.4f}",
                f"{now - was:+.4f} ± {error:.4f}",
            )
        )
    return Table(("task", "before", "after", "change"), cells, "lm-eval, with standard errors")


def _scores(path: Path) -> dict[tuple[str, str], tuple[float, float]]:
    document = strict_json.read(path)
    tasks = document.get("results") if isinstance(document, dict) else None
    scores = dict(_numbers(tasks)) if isinstance(tasks, dict) else {}
    if not scores:
        raise UsageError(f"{path}: is not a results file of lm-eval (results_*.json).")
    return scores


def _numbers(tasks: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Each task's metrics with their standard errors, or 0 if there is none.

    lm-eval names them 'acc,none' and 'acc_stderr,none'.
    """
    for task, metrics in tasks.items():
        if not isinstance(metrics, dict):
            continue
        for name, value in metrics.items():
            metric, _, chosen = name.partition(",")
            # Names such as 'sample_len' are not scores.
            if chosen and not metric.endswith("_stderr") and isinstance(value, float):
                error = metrics.get(f"{metric}_stderr,{chosen}")
                yield (task, metric), (value, error if isinstance(error, float) else 0.0)
