"""The same profile at another rate."""

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.arrivals import Constant, Gamma, Poisson
from longrope_loadtest.profiles.profile import Profile


def rate_of(profile: Profile) -> float:
    """The rate of the profile's shared arrivals, in requests (or conversations) per second.

    Raises:
        UsageError: They have no single rate.
    """
    return _arrivals(profile).rate


def at_rate(profile: Profile, rate: float) -> Profile:
    """The profile with its shared arrivals at another rate.

    Raises:
        UsageError: They have no single rate.
    """
    arrivals = _arrivals(profile).model_copy(update={"rate": rate})
    return profile.model_copy(update={"arrivals": arrivals})


def _arrivals(profile: Profile) -> Constant | Poisson | Gamma:
    if not isinstance(profile.arrivals, Constant | Poisson | Gamma):
        raise UsageError(
            "A run at several rates needs a profile whose arrivals are constant, poisson or gamma."
        )
    return profile.arrivals


def shown(rate: float) -> str:
    """Three significant digits, never in scientific notation."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
