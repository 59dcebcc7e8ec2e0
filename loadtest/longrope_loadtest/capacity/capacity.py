"""The highest rate that meets the objectives, found by doubling and bisection with repeats."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.arrivals import Constant, Gamma, Poisson
from longrope_loadtest.profiles.plan import Plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.slo import Goodput, met
from longrope_loadtest.run.record import Record

PRECISION = 0.05  # the search ends when the two rates are that near
DOUBLINGS = 12
FEWEST = 10  # requests of a run


@dataclass(frozen=True)
class Probe:
    """One rate that was tried, all its repeats together."""

    rate: float
    requests: int
    good_requests: int
    met: bool

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class Capacity:
    """The outcome: the highest rate that met the objectives, and the lowest that did not."""

    rate: float | None  # None: even the lowest that was tried did not
    missed_at: float | None  # None: none that was tried
    probes: tuple[Probe, ...]

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def at_rate(profile: Profile, rate: float) -> Profile:
    """The profile with its shared arrivals at another rate.

    Raises:
        UsageError: The profile's arrivals have no single rate, or no class has objectives.
    """
    if not isinstance(profile.arrivals, Constant | Poisson | Gamma):
        raise UsageError(
            "A capacity search needs a profile whose arrivals are constant, poisson or gamma."
        )
    if not any(each.slo for each in profile.classes.values()):
        raise UsageError("A capacity search needs a class with objectives (slo).")
    arrivals = profile.arrivals.model_copy(update={"rate": rate})
    return profile.model_copy(update={"arrivals": arrivals})


def lowest_rate(profile: Profile) -> float:
    """Requests/s below which a run is too short to say anything: ten of them in its duration."""
    assert isinstance(profile.arrivals, Constant | Poisson | Gamma)
    return FEWEST / profile.arrivals.duration if profile.arrivals.duration else 0.0


def find(
    start: float,
    lowest: float,
    repeats: int,
    attainment: float,
    measure: Callable[[float, int], Goodput],
) -> Capacity:
    """Searches from `start` requests/s, not below `lowest`.

    `measure(rate, number)` runs repeat `number` of a rate.
    A rate meets the objectives if `attainment` of the requests of all repeats do.
    """
    probes: list[Probe] = []

    def meets(rate: float) -> bool:
        good = sent = 0
        for number in range(repeats):
            seen = measure(rate, number)
            good += seen.good_requests
            sent += seen.requests
        probes.append(Probe(rate, sent, good, _enough(good, sent, attainment)))
        return probes[-1].met

    low, high = _bracket(start, lowest, meets)
    if low is not None and high is not None:
        while high - low > PRECISION * low:
            middle = (low + high) / 2
            if meets(middle):
                low = middle
            else:
                high = middle
    return Capacity(low, high, tuple(probes))


def _bracket(
    start: float, lowest: float, meets: Callable[[float], bool]
) -> tuple[float | None, float | None]:
    """Two rates, one that meets the objectives and twice that, which does not."""
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
    # Not multiplied: 55 of 100 are 0.55 of them, but 0.55 * 100 is more than 55 in binary.
    return good >= of or good / of >= attainment


class StopWhenLost:
    """Stops a run once so many requests missed their objectives that the rest cannot mend it.

    The requests that are still running are then counted as missed.
    """

    def __init__(
        self, profile: Profile, plan: Plan, repeats: int, stop: Callable[[], None]
    ) -> None:
        counted = sum((each.intended or 0) >= profile.warm_up for each in plan)
        self._still_good = self._all = counted * repeats
        self._profile = profile
        self._stop = stop

    def dispatched(self, record: Record) -> None:
        """Nothing yet."""

    def ended(self, record: Record) -> None:
        """Counts a request that missed."""
        if record.warm_up or record.outcome not in ("complete", "failed"):
            return
        if not met(record, self._profile.classes[record.class_name].slo):
            self._still_good -= 1
            if not _enough(self._still_good, self._all, self._profile.attainment):
                self._stop()
