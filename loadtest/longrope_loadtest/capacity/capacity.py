"""The highest rate that meets the objectives, found by doubling and bisection with repeats."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.arrivals import Constant, Gamma, Poisson
from longrope_loadtest.profiles.profile import Profile, RequestClass
from longrope_loadtest.profiles.rates import rate_of, shown
from longrope_loadtest.results.slo import met
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record

PRECISION = 0.05  # the search ends when the two rates differ by at most this share
DOUBLINGS = 12
FEWEST = 10  # the fewest requests of a run


@dataclass(frozen=True)
class Repeat:
    """One run at a rate: its requests that count, and those that met their objectives."""

    requests: int
    good_requests: int


@dataclass(frozen=True)
class Probe:
    """One rate that was tried, with all its repeats together."""

    rate: float
    requests: int
    good_requests: int
    met: bool
    runs: int  # fewer than the repeats that were asked for, if those decided it

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class Capacity:
    """The outcome: the highest rate that met the objectives, and the lowest that did not."""

    rate: float | None  # None: no rate that was tried met them
    missed_at: float | None  # None: every rate that was tried met them
    probes: tuple[Probe, ...]

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def check(profile: Profile) -> None:
    """Check that a capacity can be searched with the profile.

    Raises:
        UsageError: Its arrivals have no single rate, or no class has objectives.
    """
    rate_of(profile)
    if not any(request_class.slo for request_class in profile.classes.values()):
        raise UsageError("A capacity search needs a class with objectives (slo).")


def lowest_rate(profile: Profile) -> float:
    """The rate, in requests/s, below which a run has fewer than ten requests in its duration."""
    assert isinstance(profile.arrivals, Constant | Poisson | Gamma)
    return FEWEST / profile.arrivals.duration if profile.arrivals.duration else 0.0


def find(
    start: float,
    lowest: float,
    attainment: float,
    measure: Callable[[float], Iterable[Repeat]],
    told: Callable[[Capacity], None] = lambda outcome: None,
) -> Capacity:
    """Search from `start` requests/s, but not below `lowest`.

    `measure(rate)` makes the runs of a rate, and no more once the rate is lost. A rate meets the
    objectives if the share `attainment` of the requests of all its repeats does. `told` gets the
    outcome so far after every rate.

    Raises:
        UsageError: No request of a rate counts.
    """
    probes: list[Probe] = []

    def meets(rate: float) -> bool:
        seen = list(measure(rate))
        sent = sum(repeat.requests for repeat in seen)
        good = sum(repeat.good_requests for repeat in seen)
        if not sent:
            raise UsageError(
                f"No request counts at {shown(rate)} requests/s: all were cancelled or due within "
                "the warm_up."
            )
        probes.append(Probe(rate, sent, good, _enough(good, sent, attainment), len(seen)))
        told(_outcome(probes))
        return probes[-1].met

    low, high = _bracket(start, lowest, meets)
    if low is not None and high is not None:
        while high - low > PRECISION * low:
            middle = (low + high) / 2
            if meets(middle):
                low = middle
            else:
                high = middle
    return _outcome(probes)


def _outcome(probes: list[Probe]) -> Capacity:
    # The search never goes above a rate that missed, nor below one that met.
    good = [probe.rate for probe in probes if probe.met]
    bad = [probe.rate for probe in probes if not probe.met]
    return Capacity(max(good, default=None), min(bad, default=None), tuple(probes))


def _bracket(
    start: float, lowest: float, meets: Callable[[float], bool]
) -> tuple[float | None, float | None]:
    """A rate that meets the objectives and its double, which does not; None for one not found."""
    rate = start
    if meets(rate):
        for _ in range(DOUBLINGS):
            if not meets(2 * rate):
                return rate, 2 * rate
            rate *= 2
        return rate, None
    for _ in range(DOUBLINGS):
        if rate / 2 < lowest:
            break
        rate /= 2
        if meets(rate):
            return rate, 2 * rate
    return None, rate


def _enough(good: int, of: int, attainment: float) -> bool:
    # Divide instead of multiplying: 55 / 100 is 0.55, but 0.55 * 100 is more than 55 in binary.
    return good / of >= attainment


def _patience(request_class: RequestClass) -> float | None:
    """The seconds without a token after which a request of the class has missed its objectives.

    None if that does not tell: a request that its client leaves is not counted, and a recorded body
    may ask for an answer in one piece, which has no TTFT.
    """
    slo = request_class.slo
    if slo is None or request_class.cancel is not None:
        return None
    limits = (slo.e2e, None if request_class.prompt.kind == "replay" else slo.ttft)
    return min((limit for limit in limits if limit is not None), default=None)


class StopWhenLost:
    """Watches the runs of a rate, one after another, and ends the one in which the rate is lost.

    It is lost once so many requests have missed their objectives that the others cannot mend it.
    `requests` is the number that count in all repeats. The requests that are still running then
    count as missed. One that has no token when it should be answered has missed them at once, so
    that a server which hangs is not waited for.
    """

    def __init__(self, profile: Profile, requests: int) -> None:
        self._still_good = self._all = requests
        self._profile = profile
        self.is_lost = False

    def of(self, run: Run) -> Self:
        """Watch this run from now on."""
        self._stop = run.stop
        self._late: set[int] = set()
        return self

    def dispatched(self, record: Record) -> None:
        """Look whether a token has come when it should have."""
        limit = _patience(self._profile.classes[record.class_name])
        if limit is not None and not record.warm_up:
            self._look_after(limit, record)

    def ended(self, record: Record) -> None:
        """Count a request that missed its objectives."""
        if record.warm_up or record.outcome not in ("complete", "failed"):
            return
        if record.number not in self._late and not met(
            record, self._profile.classes[record.class_name].slo
        ):
            self._miss()

    def _look_after(self, limit: float, record: Record) -> None:
        asyncio.get_running_loop().call_later(limit, self._look, limit, record)

    def _look(self, limit: float, record: Record) -> None:
        if record.last_token is not None or record.ended:
            return
        if record.sent is None:  # its time-out will say whether the server takes connections
            self._look_after(limit, record)
            return
        self._late.add(record.number)
        self._miss()

    def _miss(self) -> None:
        self._still_good -= 1
        if not _enough(self._still_good, self._all, self._profile.attainment):
            self.is_lost = True
            self._stop()
