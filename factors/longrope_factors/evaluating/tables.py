"""Tables of evaluations, printed."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.retrieval import scores
from longrope_factors.evaluating.retrieval.results import Asking


def print_perplexity(evaluations: Sequence[Evaluation]) -> None:
    """One row for each text, length and method; memory is the process's peak until then."""
    sliding = {(each.window, each.stride) for each in evaluations if each.window < each.length}
    caption = "".join(f"windows of {size:,} tokens, stride {step:,}" for size, step in sliding)
    table = Table("text", "tokens", "method", "perplexity", "last 1,024", "s", "GiB")
    table.caption = caption or None
    for column in table.columns:
        column.overflow = "fold"
        column.justify = "left" if column.header in ("text", "method") else "right"
    for each in evaluations:
        table.add_row(
            each.corpus,
            f"{each.length:,}",
            each.method,
            f"{each.perplexity:.2f}",
            f"{each.perplexity_last_1024:.2f}",
            f"{each.seconds:.0f}",
            f"{each.peak_memory_bytes / 2**30:.1f}",
        )
    Console().print(table)
    for length in sorted({each.length for each in evaluations}):
        _print_comparison(length, [each for each in evaluations if each.length == length])


def _print_comparison(length: int, evaluations: Sequence[Evaluation]) -> None:
    """Over several texts: each method's geometric mean, and how far it is above the best's.

    The distance is the mean over texts of the logarithm of the ratio, with its standard error.
    """
    logs: dict[str, dict[str, float]] = {}
    for each in evaluations:
        logs.setdefault(each.method, {})[each.corpus_sha256] = np.log(each.perplexity)
    texts = list(next(iter(logs.values())))
    rows = {tuple(row.values()) for row in logs.values()}
    if len(texts) < 2 or len(rows) < 2:  # up to the original length, all are the same
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
    """Lengths by methods: the share of keys found, and the answers' mean loss in nats a token."""
    names = list(dict.fromkeys(each.method for each in retrievals))
    table = Table("tokens", *names, caption="keys found (loss of the answer, nats a token)")
    for column in table.columns:
        column.justify = "right"
    for length in sorted({each.length for each in retrievals}):
        cells = []
        for name in names:
            tried = [each for each in retrievals if (each.length, each.method) == (length, name)]
            found = sum(each.found for each in tried)
            loss = np.mean([each.answer_loss for each in tried])
            cells.append(f"{found}/{len(tried)} ({loss:.2f})")
        table.add_row(f"{length:,}", *cells)
    Console().print(table)


def print_retrieval(askings: Sequence[Asking], short: int) -> None:
    """For each method tasks by lengths, and the effective length relative to `short`."""
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
                its = [each for each in here if (each.task, each.length) == (task, length)]
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
