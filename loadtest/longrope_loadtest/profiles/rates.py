"""The same profile at another rate."""

from pydantic import ValidationError

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles.arrivals import Constant, Gamma, Poisson
from longrope_loadtest.profiles.profile import Profile, sentence_of


def rate_of(profile: Profile) -> float:
    """The rate of the profile's shared arrivals, in requests (or conversations) per second.

    Raises:
        UsageError: They have no single rate.
    """
    return _arrivals(profile).rate


def at_rate(profile: Profile, rate: float) -> Profile:
    """The profile with its shared arrivals at another rate.

    Raises:
        UsageError: They have no single rate, or the rate is too high.
    """
    arrivals = _arrivals(profile)
    fields = arrivals.model_dump(exclude_unset=True) | {"rate": rate}
    try:
        arrivals = type(arrivals).model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"{shown(rate)} requests/s: {sentence_of(error)}.") from error
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
