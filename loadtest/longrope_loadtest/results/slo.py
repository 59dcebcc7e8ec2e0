"""Service level objectives and goodput: what was answered in time."""

from collections.abc import Iterable
from dataclasses import dataclass

from longrope_loadtest.profiles.profile import Profile, Slo
from longrope_loadtest.run.record import Record


def counted(records: Iterable[Record]) -> list[Record]:
    """The records that figures are made of: not the warm-up's, not those that we left."""
    return [
        record
        for record in records
        if not record.warm_up and record.outcome in ("complete", "failed")
    ]


def met(record: Record, slo: Slo | None) -> bool:
    """Whether a request was answered and met its objectives; without any, whether it was answered.

    A gap below the first token is no gap: an answer of one token has neither TPOT nor ITL to miss.
    """
    if record.outcome != "complete":
        return False
    if slo is None:
        return True
    pairs = (
        (slo.ttft, record.ttft("intended")),
        (slo.e2e, record.e2e("intended")),
        (slo.tpot, record.tpot()),
        (slo.itl, max(record.token_gaps, default=None)),
    )
    return all(limit is None or seen is None or seen <= limit for limit, seen in pairs)


@dataclass(frozen=True)
class Goodput:
    """What met the objectives, of what was sent."""

    requests: int
    good_requests: int
    output_tokens: int
    good_output_tokens: int
    seconds: float

    @property
    def share(self) -> float:
        """Of the requests, 0 to 1; 1 of none."""
        return self.good_requests / self.requests if self.requests else 1.0

    def as_json(self) -> dict[str, float]:
        """Shares, and rates per second."""
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
    """Goodput of the counted records over `seconds`."""
    kept = counted(records)
    good = [each for each in kept if met(each, profile.classes[each.class_name].slo)]
    return Goodput(
        len(kept),
        len(good),
        sum(each.output_tokens or 0 for each in kept),
        sum(each.output_tokens or 0 for each in good),
        seconds,
    )
