"""Whether a result is worse than its baseline by more than is allowed, for continuous integration.

A difference counts if its 95 % interval excludes "no change", so that chance seldom fails a build.
"""

import math
from collections.abc import Iterator

from longrope_loadtest.errors import UsageError
from longrope_loadtest.results.compare import LATENCIES, Change, Comparison


def failures(comparison: Comparison, above: float) -> list[str]:
    """A sentence for each latency that grew to more than `above` times the baseline's.

    The shares of requests within their objectives and of right passkeys may not fall at all, and
    what the baseline has may not be missing.

    Raises:
        UsageError: `above` is no number, there is too little data, or a run ended early.
    """
    if not math.isfinite(above):
        raise UsageError(f"--fail-above {above}: must be a number such as 1.1.")
    if comparison.partial:
        raise UsageError(
            f"--fail-above needs two whole results: the run of {comparison.partial[0]} ended early."
        )
    judged = [change for change in comparison.changes if change.low is not None]
    sentences = list(_failures(judged, above))
    if comparison.missing:
        sentences.append(f"Only the baseline has {', '.join(comparison.missing)}.")
    if not sentences and not any(change.figure in LATENCIES for change in judged):
        raise UsageError(
            "--fail-above has no latency to judge: both results need 10 complete requests in a "
            "class for a median, and 200 for a p99."
        )
    return sentences


def _failures(judged: list[Change], above: float) -> Iterator[str]:
    for change in judged:
        if not change.significant or change.better:
            continue
        assert change.change is not None
        name = f"{change.class_name}: {LATENCIES.get(change.figure, change.figure)} "
        if change.kind == "difference":
            yield f"{name}{change.statistic} fell by {-100 * change.change:.1f} points."
        elif change.change > above:
            yield (
                f"{name}{change.statistic} is {change.change:.3f} times the baseline's "
                f"({change.low:.3f} to {change.high:.3f}), above {above:g}."
            )
