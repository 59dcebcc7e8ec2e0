"""Scores of retrieval: shares with intervals, and the effective length."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from longrope_factors.evaluating.retrieval.results import Asking

_Z = 1.959963984540054  # for 95 %
SHARE = 0.85


class Score(NamedTuple):
    """The share of facts that were found, with its 95 % interval from `low` to `high` (`wilson`).

    `exact` is the share of questions that were answered exactly, `loss` the answers' mean loss in
    nats per token.
    """

    found: float
    low: float
    high: float
    exact: float
    loss: float


def wilson(share: float, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share in a sample of size `of` (Wilson 1927, equation 8)."""
    spread = _Z**2 / of
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def score(askings: Iterable[Asking]) -> Score:
    """The score over all facts and questions of these documents, as if they were independent."""
    answers = [answer for asking in askings for answer in asking.answers]
    facts = [found for answer in answers for found in answer.found]
    share = sum(facts) / len(facts)
    exact = sum(answer.exact for answer in answers) / len(answers)
    loss = math.fsum(answer.loss for answer in answers) / len(answers)
    return Score(share, *wilson(share, len(facts)), exact, loss)


def averages(askings: Sequence[Asking]) -> dict[int, float]:
    """The score at each length: the unweighted mean of the tasks' shares.

    A length at which a task was not measured is left out.
    """
    tasks = sorted({asking.task for asking in askings})
    means = {}
    for length in sorted({asking.length for asking in askings}):
        here = [asking for asking in askings if asking.length == length]
        by_task = [[asking for asking in here if asking.task == task] for task in tasks]
        if all(by_task):
            means[length] = math.fsum(score(some).found for some in by_task) / len(tasks)
    return means


def effective_lengths(askings: Sequence[Asking], short: int) -> dict[str, int | None]:
    """The effective length under each method; see `effective_length`."""
    methods = dict.fromkeys(asking.method for asking in askings)
    by_method = {name: [asking for asking in askings if asking.method == name] for name in methods}
    return {name: effective_length(averages(some), short) for name, some in by_method.items()}


def effective_length(averages: dict[int, float], short: int) -> int | None:
    """The longest length up to which every score is at least 85 % of that at `short`.

    After NoLiMa (arXiv 2502.05167), among the lengths that were measured from `short` on. None if
    nothing was found at `short`.
    """
    least = SHARE * averages[short]
    if least == 0:
        return None
    effective = short
    for length in sorted(measured for measured in averages if measured >= short):
        if averages[length] < least:
            break
        effective = length
    return effective


def in_words(averages: dict[int, float], short: int) -> str:
    """A sentence with the effective length and the score that it is relative to."""
    if short not in averages:
        return f"no effective length, because not every task was measured at {short:,} tokens."
    effective = effective_length(averages, short)
    if effective is None:
        return f"no effective length, because nothing was found at {short:,} tokens."
    return (
        f"effective length {effective:,} tokens of {max(averages):,} tried: at least {SHARE:.0%} "
        f"of the {averages[short]:.0%} found at {short:,}."
    )
