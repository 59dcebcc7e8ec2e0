"""Service level objectives and goodput: the requests that were answered in time."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from longrope_loadtest.profiles.profile import Profile, Slo
from longrope_loadtest.run.record import Record


def counted(records: Iterable[Record]) -> list[Record]:
    """The records that figures are made of: without the warm-up and cancelled requests."""
    return [
        record
        for record in records
        if not record.warm_up and record.outcome in ("complete", "failed")
    ]


def met(record: Record, slo: Slo | None) -> bool:
    """Whether a request was answered and met its objectives, if it has any.

    An answer of one token has no TPOT and no ITL, so it cannot miss these objectives. Where a
    server does not count the tokens, each event of a stream is one.
    """
    if record.outcome != "complete":
        return False
    if slo is None:
        return True
    pairs = (
        (slo.ttft, record.ttft("intended")),
        (slo.e2e, record.e2e("intended")),
        (slo.tpot, _tpot(record)),
        (slo.itl, max(record.token_gaps, default=None)),
    )
    return all(limit is None or seen is None or seen <= limit for limit, seen in pairs)


def _tpot(record: Record) -> float | None:
    if record.output_tokens is None and record.token_gaps:
        return math.fsum(record.token_gaps) / len(record.token_gaps)
    return record.tpot()


@dataclass(frozen=True)
class Goodput:
    """The requests and output tokens that were counted, and those that met the objectives."""

    requests: int
    good_requests: int
    output_tokens: int
    good_output_tokens: int
    seconds: float

    @property
    def share(self) -> float:
        """The share of good requests, 0 to 1; 1 if there are no requests."""
        return self.good_requests / self.requests if self.requests else 1.0

    def as_json(self) -> dict[str, float]:
        """Numbers of requests, shares, and rates per second."""
        tokens = self.output_tokens
        return {
            "requests": self.requests,
            "good_requests": self.good_requests,
            "share_of_requests": self.share,
            "share_of_output_tokens": self.good_output_tokens / tokens if tokens else 1.0,
            "good_requests_per_second": self.good_requests / self.seconds,
            "good_output_tokens_per_second": self.good_output_tokens / self.seconds,
        }


def goodput(records: Iterable[Record], profile: Profile, seconds: float) -> Goodput:
    """The goodput of the counted records over `seconds`."""
    kept = counted(records)
    good = [record for record in kept if met(record, profile.classes[record.class_name].slo)]
    return Goodput(
        len(kept),
        len(good),
        sum(record.output_tokens or 0 for record in kept),
        sum(record.output_tokens or 0 for record in good),
        seconds,
    )
