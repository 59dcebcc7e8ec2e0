"""Print evaluations as tables."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from longrope_factors.evaluating.evaluation import Evaluation, text_names
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.retrieval import scores
from longrope_factors.evaluating.retrieval.results import Asking


def print_perplexity(evaluations: Sequence[Evaluation]) -> None:
    """Print a row for each text, length and method; memory is the process's peak until then."""
    sliding = {
        (evaluation.window, evaluation.stride)
        for evaluation in evaluations
        if evaluation.window < evaluation.length
    }
    caption = "".join(f"windows of {size:,} tokens, stride {step:,}" for size, step in sliding)
    table = Table("text", "tokens", "method", "perplexity", "last 1,024", "s", "GiB")
    table.caption = caption or None
    for column in table.columns:
        column.overflow = "fold"
        column.justify = "left" if column.header in ("text", "method") else "right"
    names = text_names(evaluations)
    for evaluation in evaluations:
        table.add_row(
            names[evaluation.corpus_sha256],
            f"{evaluation.length:,}",
            evaluation.method,
            f"{evaluation.perplexity:.2f}",
            f"{evaluation.perplexity_last_1024:.2f}",
            f"{evaluation.seconds:.0f}",
            f"{evaluation.peak_memory_bytes / 2**30:.1f}",
        )
    Console().print(table)
    for length in sorted({evaluation.length for evaluation in evaluations}):
        _print_comparison(
            length, [evaluation for evaluation in evaluations if evaluation.length == length]
        )


def _print_comparison(length: int, evaluations: Sequence[Evaluation]) -> None:
    """For several texts, print each method's geometric mean and how far it is above the best one.

    The distance is the mean over texts of the logarithm of the ratio, with its standard error.
    """
    logs: dict[str, dict[str, float]] = {}
    for evaluation in evaluations:
        log = np.log(evaluation.perplexity)
        logs.setdefault(evaluation.method, {})[evaluation.corpus_sha256] = log
    texts = list(next(iter(logs.values())))
    rows = {tuple(row.values()) for row in logs.values()}
    if len(texts) < 2 or len(rows) < 2:  # up to the original length, all methods are the same
        return
    by_method = {name: np.array([row[text] for text in texts]) for name, row in logs.items()}
    best = min(by_method, key=lambda name: float(by_method[name].mean()))
    table = Table("method", "geometric mean", f"above {best}", "standard error")
    table.title = f"{length:,} tokens, {len(texts)} texts"
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in by_method.items():
        above = row - by_method[best]
        error = above.std(ddof=1) / np.sqrt(len(texts))
        table.add_row(name, f"{np.exp(row.mean()):.3f}", f"{above.mean():.2%}", f"{error:.2%}")
    Console().print(table)


def print_passkey(retrievals: Sequence[Retrieval]) -> None:
    """Print, by length and method, the keys found and the answers' mean loss in nats per token."""
    names = list(dict.fromkeys(retrieval.method for retrieval in retrievals))
    table = Table("tokens", *names, caption="keys found (loss of the answer, nats a token)")
    for column in table.columns:
        column.justify = "right"
    for length in sorted({retrieval.length for retrieval in retrievals}):
        cells = []
        for name in names:
            tried = [
                retrieval
                for retrieval in retrievals
                if (retrieval.length, retrieval.method) == (length, name)
            ]
            found = sum(retrieval.found for retrieval in tried)
            loss = np.mean([retrieval.answer_loss for retrieval in tried])
            cells.append(f"{found}/{len(tried)} ({loss:.2f})")
        table.add_row(f"{length:,}", *cells)
    Console().print(table)


def print_retrieval(askings: Sequence[Asking], short: int) -> None:
    """Print each method's tasks by length, and its effective length relative to `short`."""
    for method in dict.fromkeys(asking.method for asking in askings):
        here = [asking for asking in askings if asking.method == method]
        table = Table(
            "task", "tokens", "found", "95 % interval", "exact", "loss", "s", title=method
        )
        table.caption = "loss: of the answers, nats a token"
        for column in table.columns[1:]:
            column.justify = "right"
        for task in dict.fromkeys(asking.task for asking in here):
            for length in sorted({asking.length for asking in here}):
                its = [asking for asking in here if (asking.task, asking.length) == (task, length)]
                table.add_row(task, f"{length:,}", *_cells(its))
            table.add_section()
        averages = scores.averages(here)
        for length, share in averages.items():
            table.add_row("mean", f"{length:,}", f"{share:.0%}")
        console = Console()
        console.print(table)
        console.print(f"{method}: {scores.in_words(averages, short)}", highlight=False)


def _cells(askings: Sequence[Asking]) -> list[str]:
    score = scores.score(askings)
    return [
        f"{score.found:.0%}",
        f"{score.low:.0%} to {score.high:.0%}",
        f"{score.exact:.0%}",
        f"{score.loss:.2f}",
        f"{sum(asking.seconds for asking in askings):.0f}",
    ]
