"""The figures of a run by class: latencies, rates, errors, right answers. All times in seconds."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from longrope_loadtest.profiles.profile import ALL, Profile
from longrope_loadtest.results.conversations import conversations
from longrope_loadtest.results.slo import counted, goodput, ratio, tokens_of
from longrope_loadtest.run.record import Record

PERCENTILES = (50, 90, 95, 99)

METRICS: dict[str, Callable[[Record], float | list[float] | None]] = {
    "ttft": lambda record: record.ttft(),
    "ttft_intended": lambda record: record.ttft("intended"),
    "tpot": lambda record: record.tpot(),
    "e2e": lambda record: record.e2e(),
    "e2e_intended": lambda record: record.e2e("intended"),
    "itl": lambda record: record.token_gaps,
}


def values(records: Iterable[Record], metric: str) -> list[float]:
    """A metric's values for the complete requests that count; `itl` has one for each gap."""
    of = METRICS[metric]
    numbers: list[float] = []
    for record in counted(records):
        if record.outcome != "complete":
            continue
        value = of(record)
        if isinstance(value, list):
            numbers.extend(value)
        elif value is not None:
            numbers.append(value)
    return numbers


def spread(numbers: Sequence[float]) -> dict[str, float] | None:
    """Mean, percentiles (linear interpolation, as in vLLM) and maximum; None without numbers."""
    if not numbers:
        return None
    statistics = {"count": len(numbers), "mean": float(np.mean(numbers))}
    for at in PERCENTILES:
        statistics[f"p{at}"] = float(np.percentile(numbers, at))
    return statistics | {"max": float(np.max(numbers))}


def seconds_of(records: Sequence[Record]) -> float | None:
    """The duration of the counted part: from its first intended time to its last answer's end.

    None if no request is counted.

    A failed request has no answer, so that one that hangs until its timeout does not lower the
    rates of all others; the duration covers the time at which it was due.
    """
    kept = counted(records)
    if not kept:
        return None
    end = max(record.ended if record.outcome == "complete" else record.intended for record in kept)
    return max(1e-9, end - min(record.intended for record in kept))


def summary(records: Sequence[Record], profile: Profile) -> dict[str, Any]:
    """The figures of each class and, if there are several, of all together under `all`."""
    seconds = seconds_of(records)
    groups = {name: [r for r in records if r.class_name == name] for name in profile.classes}
    figures = {name: _of(group, profile, seconds) for name, group in groups.items()}
    if len(groups) > 1:
        figures[ALL] = _of(records, profile, seconds)
    return figures


def share_within_objectives(figures: dict[str, Any]) -> float | None:
    """The share within their objectives of all requests that a summary counts; None without any."""
    share: float | None = together(figures)["goodput"]["share_of_requests"]
    return share


def together(figures: dict[str, Any]) -> dict[str, Any]:
    """A summary's figures of all classes together."""
    whole: dict[str, Any] = figures.get(ALL, next(iter(figures.values())))
    return whole


def _of(records: Sequence[Record], profile: Profile, seconds: float | None) -> dict[str, Any]:
    kept = counted(records)
    complete = [record for record in kept if record.outcome == "complete"]
    prompt = sum(record.prompt_tokens or 0 for record in complete)
    cached = [record.cached_tokens for record in complete if record.cached_tokens is not None]
    figures: dict[str, Any] = {
        "requests": {
            "sent": len(records),
            "warm_up": sum(record.warm_up for record in records),
            "complete": len(complete),
            "failed": len(kept) - len(complete),
            "cancelled": sum(record.outcome == "cancelled" for record in records),
            "interrupted": sum(record.outcome == "interrupted" for record in records),
            "retries": sum(record.retries for record in records),
        },
        "errors": dict(Counter(record.error for record in kept if record.error).most_common()),
        "seconds": seconds,
        "requests_per_second": ratio(len(complete), seconds),
        "prompt_tokens_per_second": ratio(tokens_of([r.prompt_tokens for r in complete]), seconds),
        "output_tokens_per_second": ratio(tokens_of([r.output_tokens for r in complete]), seconds),
        "uncounted": sum(record.output_tokens is None for record in complete),
        "prompt_tokens": spread([r.prompt_tokens for r in complete if r.prompt_tokens]),
        "output_tokens": spread([r.output_tokens for r in complete if r.output_tokens]),
        "cached_share": ratio(sum(cached) if cached else None, prompt),
        "latency": {name: spread(values(records, name)) for name in METRICS},
        "goodput": goodput(records, profile, seconds).as_json(),
        "factor_sets": dict(
            sorted(Counter(r.factor_set for r in complete if r.factor_set).items())
        ),
        "promotions": sum(record.promoted_to is not None for record in complete),
    }
    asked = [record for record in complete if record.correct is not None]
    figures["passkeys"] = _accuracy(asked) if asked else None
    figures["conversations"] = conversations(kept)
    return figures


def _accuracy(records: Sequence[Record]) -> dict[str, Any]:
    by_length: dict[int, list[Record]] = {}
    for record in records:
        length = record.prompt_tokens or record.planned_prompt_tokens
        by_length.setdefault(1 << (length - 1).bit_length(), []).append(record)
    return {
        "asked": len(records),
        "correct": sum(bool(record.correct) for record in records),
        "by_length": [
            {
                "up_to_tokens": length,
                "asked": len(group),
                "correct": sum(bool(record.correct) for record in group),
                "ttft_p50": (spread(values(group, "ttft")) or {}).get("p50"),
            }
            for length, group in sorted(by_length.items())
        ],
    }
