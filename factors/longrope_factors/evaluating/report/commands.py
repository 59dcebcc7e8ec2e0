"""The commands that measure the numbers of a report again, derived from its results."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, get_args

from longrope_factors.evaluating.contenders import OWN
from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.results import Result
from longrope_factors.evaluating.retrieval.results import Asking
from longrope_factors.evaluating.retrieval.tasks import TASKS
from longrope_factors.factor_file.schema import Method

Kind = TypeVar("Kind", bound=Result)


def commands(results: Sequence[Result]) -> list[str]:
    """One command line for all results that one run can make.

    Model directory, texts and factor files appear by name, because results do not say where they
    are. The books of a retrieval appear as TEXTFILE, because results do not even have their names.
    """
    return [
        *_of(results, Evaluation, _perplexity),
        *_of(results, Retrieval, _passkey),
        *_of(results, Asking, _retrieval),
    ]


def _of(
    results: Sequence[Result],
    kind: type[Kind],
    options: Callable[[Sequence[Kind]], tuple[str, dict[str, Iterable[Any]]]],
) -> list[str]:
    runs: dict[tuple[Any, ...], list[Kind]] = {}
    for result in results:
        if isinstance(result, kind):
            run = (result.model, result.weights_sha256, result.dtype, *_run(result))
            runs.setdefault(run, []).append(result)
    return [_command(run, *options(run)) for run in runs.values()]


def _run(result: Result) -> tuple[Any, ...]:
    """What all results of one run have in common, besides the model."""
    match result:
        case Evaluation():
            return (result.stride,) if result.window < result.length else ()
        case Retrieval():
            return (result.seed,)
        case Asking():
            return (result.form, result.facts, result.seed)
    return ()


def _perplexity(run: Sequence[Evaluation]) -> tuple[str, dict[str, Iterable[Any]]]:
    sliding = [evaluation for evaluation in run if evaluation.window < evaluation.length][:1]
    return "perplexity", {
        "--corpus": (f"{evaluation.corpus}.txt" for evaluation in run),
        "--window": (evaluation.window for evaluation in sliding),
        "--stride": (evaluation.stride for evaluation in sliding),
    }


def _passkey(run: Sequence[Retrieval]) -> tuple[str, dict[str, Iterable[Any]]]:
    return "passkey", {
        "--depth": (f"{retrieval.depth:g}" for retrieval in run),
        "--trials": (1 + max(retrieval.trial for retrieval in run),),
        "--seed": (run[0].seed,),
    }


def _retrieval(run: Sequence[Asking]) -> tuple[str, dict[str, Iterable[Any]]]:
    documents = (
        1 + asking.document // (asking.facts if TASKS[asking.task].alone else 1) for asking in run
    )
    return "retrieval", {
        "--short": (min(asking.length for asking in run),),
        "--task": (asking.task for asking in run),
        "--corpus": ("TEXTFILE" for asking in run if asking.filler_sha256),
        "--form": (run[0].form,),
        "--facts": (run[0].facts,),
        "--documents": (max(documents),),
        "--seed": (run[0].seed,),
    }


def _command(run: Sequence[Result], kind: str, options: dict[str, Iterable[Any]]) -> str:
    methods = dict.fromkeys(result.method for result in run)
    known = (*get_args(Method), OWN)
    every: dict[str, Iterable[Any]] = {
        "--model": (run[0].model,),
        "--length": sorted({result.length for result in run}),
        "--method": (name for name in methods if name in known),
        "--factors": (name for name in methods if name not in known),
        **options,
        "--dtype": (run[0].dtype,),
        "-o": (f"{kind}.jsonl",),
    }
    words = [
        word
        for option, values in every.items()
        for value in dict.fromkeys(values)
        for word in (option, str(value))
    ]
    return shlex.join(["longrope", "factors", "evaluate", kind, *words])
