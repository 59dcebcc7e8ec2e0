"""The times at which requests should be sent."""

import math
import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from longrope_loadtest.profiles.bounds import (
    MOST,
    MOST_REQUESTS,
    MOST_USERS,
    Amount,
    PositiveAmount,
    too_many,
)
from longrope_loadtest.profiles.distributions import Distribution, FilePath, Strict
from longrope_loadtest.profiles.trace_units import LARGEST_BLOCK, Unit

Requests = Annotated[int, Field(gt=0, le=MOST_REQUESTS)]


class _AtRate(Strict):
    rate: PositiveAmount
    duration: PositiveAmount | None = None  # seconds
    requests: Requests | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.duration is None and self.requests is None:
            raise ValueError("say when it ends: duration (seconds), requests, or both")
        if self.requests is None and self.duration is not None:
            _check_number(self.rate, self.duration)
        return self

    def _cut(self, times: Iterator[float]) -> Iterator[float]:
        for number, time in enumerate(times):
            if self.requests is not None and number >= self.requests:
                return
            if self.duration is not None and time >= self.duration:
                return
            yield time


class Constant(_AtRate):
    """Open loop, evenly spaced: `rate` requests per second, the first at 0."""

    kind: Literal["constant"]

    def times(self, rng: random.Random) -> Iterator[float]:
        """Intended times in seconds, ascending."""
        return self._cut(number / self.rate for number in count())


class Poisson(_AtRate):
    """Open loop, independent requests: exponential gaps with mean 1 / `rate`."""

    kind: Literal["poisson"]

    def times(self, rng: random.Random) -> Iterator[float]:
        """Intended times in seconds, ascending."""
        return self._cut(_summed(lambda: rng.expovariate(self.rate)))


class Gamma(_AtRate):
    """Open loop with gamma gaps of mean 1 / `rate`.

    `burstiness` is the shape of the gamma distribution, as in `vllm bench serve`: 1 is Poisson;
    below 1, requests come in bursts; above 1, they are spaced more evenly.
    """

    kind: Literal["gamma"]
    burstiness: Annotated[float, Field(ge=0.001, le=MOST)]

    def times(self, rng: random.Random) -> Iterator[float]:
        """Intended times in seconds, ascending."""
        scale = 1 / (self.rate * self.burstiness)
        return self._cut(_summed(lambda: rng.gammavariate(self.burstiness, scale)))


class Ramp(Strict):
    """Open loop, Poisson with a rate that changes linearly from `rate_from` to `rate_to`."""

    kind: Literal["ramp"]
    rate_from: Amount
    rate_to: Amount
    duration: PositiveAmount

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.rate_from == self.rate_to == 0:
            raise ValueError("rate_from and rate_to are both 0")
        _check_number((self.rate_from + self.rate_to) / 2, self.duration)
        return self

    def times(self, rng: random.Random) -> Iterator[float]:
        """Intended times in seconds, ascending.

        They are Poisson events of rate 1, mapped by the inverse of the integrated rate,
        a t + (b - a) t^2 / (2 D).
        """
        bend = (self.rate_to - self.rate_from) / (2 * self.duration)
        for events in _summed(lambda: rng.expovariate(1)):
            under = self.rate_from**2 + 4 * bend * events
            if under <= 0:
                return
            time = 2 * events / (self.rate_from + math.sqrt(under))
            if time >= self.duration:
                return
            yield time


class Trace(Strict):
    """Replay of a JSON Lines file, `speed` times as fast; docs/loadtest.md lists its fields."""

    kind: Literal["trace"]
    path: FilePath
    speed: PositiveAmount = 1
    requests: PositiveInt | None = None
    unit: Unit | None = None  # of its timestamps; None: deduced if it is unambiguous
    # Of a hash id; None: deduced if it is unambiguous.
    block_tokens: Annotated[int, Field(gt=0, le=LARGEST_BLOCK)] | None = None


class Closed(Strict):
    """Closed loop: each of `users` sends a request, waits for its end, thinks, sends the next."""

    kind: Literal["closed"]
    users: Annotated[int, Field(gt=0, le=MOST_USERS)]
    requests: Requests
    think: Distribution | None = None  # seconds

    @model_validator(mode="after")
    def _all_users_send(self) -> Self:
        if self.users > self.requests:
            raise ValueError(f"users ({self.users}) above requests ({self.requests}) send nothing")
        return self


Open = Constant | Poisson | Gamma | Ramp
Arrivals = Annotated[Open | Trace | Closed, Field(discriminator="kind")]


def _check_number(rate: float, duration: float) -> None:
    if rate * duration > MOST_REQUESTS:
        what = f"{rate:,.10g} a second for {duration:,.10g} s"
        raise ValueError(too_many(what, rate * duration))


def _summed(gap: Callable[[], float]) -> Iterator[float]:
    time = 0.0
    while True:
        time += gap()
        yield time
