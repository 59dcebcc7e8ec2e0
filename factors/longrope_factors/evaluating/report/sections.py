"""The sections of a report: tables and plots of one kind of result."""

import base64
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longrope_factors.evaluating import plot
from longrope_factors.evaluating.evaluation import Evaluation, text_names
from longrope_factors.evaluating.passkey import Retrieval
from longrope_factors.evaluating.retrieval import scores
from longrope_factors.evaluating.retrieval.results import Asking

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table; all columns but the first are numbers."""

    columns: Row
    rows: Sequence[Row]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a text, tables, and pictures as `data:` URLs."""

    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[str] = ()


def retrieval(askings: Sequence[Asking], methods: Sequence[str]) -> Section:
    """The means by length, every task's scores, and maps of depth by length."""
    lengths = sorted({asking.length for asking in askings})
    means, tasks = [], []
    for method in methods:
        its = [asking for asking in askings if asking.method == method]
        if its:
            averages = scores.averages(its)
            shares = [f"{averages[length]:.0%}" if length in averages else "" for length in lengths]
            means.append((method, *shares))
            names = dict.fromkeys(asking.task for asking in its)
            rows = [(name, *(_score(its, name, length) for length in lengths)) for name in names]
            tasks.append(Table(("task", *_tokens(lengths)), rows, method))
    return Section(
        "Retrieval",
        "The share of facts in long documents that greedy decoding says when it is asked, with its "
        "95 % (Wilson) interval, and the answers' mean loss in nats a token.",
        [Table(("mean of the tasks", *_tokens(lengths)), means), *tasks],
        [_picture(lambda path: plot.draw_retrieval(askings, path))],
    )


def effective(askings: Sequence[Asking], methods: Sequence[str]) -> list[tuple[str, str]]:
    """Each method's name, and a sentence with its effective length.

    All methods of one model are relative to the same length, the shortest.
    """
    sentences = []
    for method in methods:
        its = [asking for asking in askings if asking.method == method]
        if averages := scores.averages(its):
            weights = {asking.weights_sha256 for asking in its}
            short = min(asking.length for asking in askings if asking.weights_sha256 in weights)
            sentences.append((method, scores.in_words(averages, short)))
    return sentences


def perplexity(evaluations: Sequence[Evaluation], methods: Sequence[str]) -> Section:
    """The perplexity of every text, by method and length."""
    names = text_names(evaluations)
    texts = {
        (names[evaluation.corpus_sha256], evaluation.corpus_sha256, evaluation.length)
        for evaluation in evaluations
    }
    measured = {evaluation.method for evaluation in evaluations}
    named = [name for name in methods if name in measured]
    rows = []
    for text, sha256, length in sorted(texts):
        cells = []
        for name in named:
            cells.append(
                ", ".join(
                    f"{evaluation.perplexity:.2f} ({evaluation.perplexity_last_1024:.2f})"
                    for evaluation in evaluations
                    if (evaluation.corpus_sha256, evaluation.length) == (sha256, length)
                    and evaluation.method == name
                )
            )
        rows.append((f"{text}, {length:,}", *cells))
    return Section(
        "Perplexity",
        "Of each text's first tokens, and in brackets of the last 1,024 of them.",
        [Table(("text, tokens", *named), rows)],
        [_picture(lambda path: plot.draw_perplexity(evaluations, path))],
    )


def passkey(retrievals: Sequence[Retrieval], methods: Sequence[str]) -> Section:
    """The keys found, by length and method."""
    measured = {attempt.method for attempt in retrievals}
    named = [name for name in methods if name in measured]
    rows = []
    for length in sorted({attempt.length for attempt in retrievals}):
        cells = []
        for name in named:
            tried = [
                attempt
                for attempt in retrievals
                if (attempt.length, attempt.method) == (length, name)
            ]
            found = sum(attempt.found for attempt in tried)
            loss = math.fsum(attempt.answer_loss for attempt in tried) / max(1, len(tried))
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
