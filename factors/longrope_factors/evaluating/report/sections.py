"""What a report's sections say: tables and pictures of one kind of result."""

import base64
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longrope_factors.evaluating import plot
from longrope_factors.evaluating.evaluation import Evaluation
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.retrieval import scores
from longrope_factors.evaluating.retrieval.results import Asking

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells under columns; all but the first column are numbers."""

    columns: Row
    rows: Sequence[Row]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """Tables and pictures, as data: addresses, under a heading."""

    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[str] = ()


def retrieval(askings: Sequence[Asking], methods: Sequence[str]) -> Section:
    """Means by length, every task, and maps of depth by length."""
    lengths = sorted({asking.length for asking in askings})
    means, tasks = [], []
    for method in methods:
        its = [asking for asking in askings if asking.method == method]
        if its:
            averages = scores.averages(its)
            shares = [f"{averages[each]:.0%}" if each in averages else "" for each in lengths]
            means.append((method, *shares))
            names = dict.fromkeys(asking.task for asking in its)
            rows = [(name, *(_score(its, name, each) for each in lengths)) for name in names]
            tasks.append(Table(("task", *_tokens(lengths)), rows, method))
    return Section(
        "Retrieval",
        "The share of facts in long documents that greedy decoding says when it is asked, with its "
        "95 % (Wilson) interval, and the answers' mean loss in nats a token.",
        [Table(("mean of the tasks", *_tokens(lengths)), means), *tasks],
        [_picture(lambda path: plot.draw_retrieval(askings, path))],
    )


def effective(askings: Sequence[Asking], methods: Sequence[str]) -> list[tuple[str, str]]:
    """Each method's name, and its effective length in a sentence."""
    found = []
    for method in methods:
        averages = scores.averages([asking for asking in askings if asking.method == method])
        if averages:
            found.append((method, scores.in_words(averages, min(averages))))
    return found


def perplexity(evaluations: Sequence[Evaluation], methods: Sequence[str]) -> Section:
    """Perplexity of every text, by method and length."""
    texts = {(each.corpus, each.length) for each in evaluations}
    named = [name for name in methods if any(each.method == name for each in evaluations)]
    rows = []
    for corpus, length in sorted(texts):
        cells = []
        for name in named:
            cells.append(
                ", ".join(
                    f"{each.perplexity:.2f} ({each.perplexity_last_1024:.2f})"
                    for each in evaluations
                    if (each.corpus, each.length, each.method) == (corpus, length, name)
                )
            )
        rows.append((f"{corpus}, {length:,}", *cells))
    return Section(
        "Perplexity",
        "Of each text's first tokens, and in brackets of the last 1,024 of them.",
        [Table(("text, tokens", *named), rows)],
        [_picture(lambda path: plot.draw_perplexity(evaluations, path))],
    )


def passkey(retrievals: Sequence[Retrieval], methods: Sequence[str]) -> Section:
    """Keys found, by length and method."""
    named = [name for name in methods if any(each.method == name for each in retrievals)]
    rows = []
    for length in sorted({each.length for each in retrievals}):
        cells = []
        for name in named:
            tried = [each for each in retrievals if (each.length, each.method) == (length, name)]
            found = sum(each.found for each in tried)
            loss = math.fsum(each.answer_loss for each in tried) / max(1, len(tried))
            cells.append(f"{found} of {len(tried)} ({loss:.2f})" if tried else "")
        rows.append((f"{length:,}", *cells))
    return Section(
        "Pass keys",
        "Numbers found in a text about nothing, and the answers' mean loss in nats a token.",
        [Table(("tokens", *named), rows)],
        [_picture(lambda path: plot.draw_passkey(retrievals, path))],
    )


def _score(askings: Sequence[Asking], task: str, length: int) -> str:
    its = [asking for asking in askings if (asking.task, asking.length) == (task, length)]
    if not its:
        return ""
    score = scores.score(its)
    return f"{score.found:.0%} [{100 * score.low:.0f} to {100 * score.high:.0f}] ({score.loss:.2f})"


def _tokens(lengths: Sequence[int]) -> Row:
    return tuple(f"{length:,}" for length in lengths)


def _picture(draw: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:image/png;base64,{encoded}"
