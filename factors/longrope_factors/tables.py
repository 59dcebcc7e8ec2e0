"""Tables of evaluations, printed."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from longrope_factors.evaluation import Evaluation
from longrope_factors.passkey import Retrieval


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
