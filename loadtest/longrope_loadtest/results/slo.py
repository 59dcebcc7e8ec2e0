"""Service level objectives and goodput: the requests that were answered in time."""

import math
from collections.abc import Iterable, Sequence
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
    """The requests and output tokens that were counted, and those that met the objectives.

    The tokens are None if the server counted none of the answers'.
    """

    requests: int
    good_requests: int
    output_tokens: int | None
    good_output_tokens: int | None
    seconds: float | None  # None if no request was counted

    def as_json(self) -> dict[str, float | None]:
        """Numbers of requests, shares, and rates per second; None for what is of nothing."""
        return {
            "requests": self.requests,
            "good_requests": self.good_requests,
            "share_of_requests": ratio(self.good_requests, self.requests),
            "share_of_output_tokens": ratio(self.good_output_tokens, self.output_tokens),
            "good_requests_per_second": ratio(self.good_requests, self.seconds),
            "good_output_tokens_per_second": ratio(self.good_output_tokens, self.seconds),
        }


def ratio(part: float | None, whole: float | None) -> float | None:
    """A share or a rate; None if it is one of nothing, or if a number is unknown."""
    return part / whole if part is not None and whole else None


def tokens_of(counts: Sequence[int | None]) -> int | None:
    """The sum of the server's counts; None if it gave none for all these requests."""
    known = [count for count in counts if count is not None]
    return None if counts and not known else sum(known)


def goodput(records: Iterable[Record], profile: Profile, seconds: float | None) -> Goodput:
    """The goodput of the counted records over `seconds`."""
    kept = counted(records)
    good = [record for record in kept if met(record, profile.classes[record.class_name].slo)]
    return Goodput(
        len(kept),
        len(good),
        tokens_of([record.output_tokens for record in kept if record.outcome == "complete"]),
        tokens_of([record.output_tokens for record in good]),
        seconds,
    )
