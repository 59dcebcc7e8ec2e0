"""Plan the requests of a profile: their classes, times, lengths and contents."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import traces
from longrope_loadtest.profiles.arrivals import Arrivals, Closed, Trace
from longrope_loadtest.profiles.bounds import MOST, MOST_REQUESTS, too_many
from longrope_loadtest.profiles.distributions import Distribution
from longrope_loadtest.profiles.drawer import Drawer
from longrope_loadtest.profiles.planned import Plan, Users
from longrope_loadtest.profiles.profile import Profile, RequestClass


@dataclass(frozen=True, slots=True)
class _Arrival:
    time: float
    class_name: str
    traced: traces.Traced | None = None


def make(profile: Profile, seed: int, directory: Path = Path()) -> Plan:
    """The plan of a profile; equal arguments make equal plans.

    The paths of traces and of the user's own prompts are relative to `directory`.

    Raises:
        UsageError: A trace or a file of prompts cannot be used, or nothing would be sent.
    """
    drawer = Drawer(profile, seed, directory)
    arrivals: list[_Arrival] = []
    loops: list[tuple[Closed, dict[str, RequestClass], random.Random]] = []
    for index, (process, classes) in enumerate(profile.streams()):
        rng = random.Random(f"{seed}/arrivals/{index}")
        if isinstance(process, Closed):
            loops.append((process, classes, rng))
        else:
            arrivals.extend(islice(_arriving(process, classes, rng, directory), MOST_REQUESTS + 1))
    arrivals.sort(key=lambda arrival: arrival.time)
    number = len(arrivals) + sum(process.requests for process, _, _ in loops)
    if number > MOST_REQUESTS:
        raise UsageError(f"{too_many('The arrivals', number)}.")
    if arrivals and arrivals[-1].time > MOST:
        raise UsageError(
            f"The last request would be due after {arrivals[-1].time:g} s, and a run lasts at most "
            f"{MOST:,} s: raise the rate, or the speed of the trace."
        )
    opened = tuple(
        drawer.draw(arrival.class_name, arrival.time, arrival.traced) for arrival in arrivals
    )
    closed = []
    for process, classes, rng in loops:
        requests = [drawer.draw(_class(classes, rng), None) for _ in range(process.requests)]
        closed.append(Users(process.users, tuple(requests), _think(process, rng)))
    if not opened and not closed:
        raise UsageError("The profile sends no request: raise its rate or its duration.")
    return Plan(opened, tuple(closed))


def _arriving(
    process: Arrivals, classes: dict[str, RequestClass], rng: random.Random, directory: Path
) -> Iterator[_Arrival]:
    if isinstance(process, Trace):
        path = directory / process.path
        replayed = traces.read(path, process.unit, process.block_tokens)[: process.requests]
        for number, traced in enumerate(replayed, 1):
            name = traced.class_name or _class(classes, rng)
            if name not in classes:
                have = ", ".join(classes)
                raise UsageError(
                    f"{path}, request {number}: no class {name!r} has these arrivals, but {have}."
                )
            yield _Arrival(traced.time / process.speed, name, traced)
        return
    assert not isinstance(process, Closed)
    for time in process.times(rng):
        yield _Arrival(time, _class(classes, rng))


def _class(classes: dict[str, RequestClass], rng: random.Random) -> str:
    weights = [request_class.weight for request_class in classes.values()]
    return rng.choices(list(classes), weights)[0]


def _think(process: Closed, rng: random.Random) -> tuple[float, ...]:
    think: Distribution | None = process.think
    if think is None:
        return (0.0,) * process.requests
    return tuple(think.draw(rng) for _ in range(process.requests))
