"""Plan the requests of a profile: their classes, times, lengths and contents."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import traces
from longrope_loadtest.profiles.arrivals import Arrivals, Closed, Trace
from longrope_loadtest.profiles.distributions import Distribution, draw_tokens
from longrope_loadtest.profiles.profile import Profile, RequestClass, SharedPrefix


@dataclass(frozen=True, slots=True)
class Planned:
    """One request to send."""

    number: int  # from 0, by intended time; closed loops last
    class_name: str
    intended: float | None  # seconds from the start of the run; None in a closed loop
    prompt_tokens: int
    output_tokens: int
    prefix: str | None = None  # the name of the text of its first prefix_tokens tokens
    prefix_tokens: int = 0
    blocks: tuple[int, ...] = ()  # of a trace: the prompt's text, block by block
    block_tokens: int = 0  # tokens in each block
    passkey: str | None = None
    depth: float = 0  # of the passkey, 0 to 1
    cancel_after: float | None = None  # seconds from dispatch


@dataclass(frozen=True, slots=True)
class Users:
    """A closed loop: its requests, in the order in which the next free user takes them."""

    number: int
    requests: tuple[Planned, ...]
    think: tuple[float, ...]  # seconds before each request


@dataclass(frozen=True, slots=True)
class Plan:
    """All requests of a run."""

    open: tuple[Planned, ...]  # by intended time
    closed: tuple[Users, ...]

    def __iter__(self) -> Iterator[Planned]:
        """Every request by its number."""
        yield from self.open
        for users in self.closed:
            yield from users.requests

    def __len__(self) -> int:
        """The number of requests."""
        return len(self.open) + sum(len(users.requests) for users in self.closed)


@dataclass(frozen=True, slots=True)
class _Arrival:
    time: float
    class_name: str
    traced: traces.Traced | None = None


class _Drawer:
    """Draws the content of requests.

    A request depends only on the seed and its number, except for its shared prefix, which also
    depends on the earlier requests of the class.
    """

    def __init__(self, profile: Profile, seed: int) -> None:
        self._profile = profile
        self._seed = seed
        self._prefixes: dict[str, int] = {}

    def draw(
        self, number: int, class_name: str, time: float | None, traced: traces.Traced | None
    ) -> Planned:
        rng = random.Random(f"{self._seed}/request/{number}")
        request_class = self._profile.classes[class_name]
        prompt, cancel = request_class.prompt, request_class.cancel
        if traced is None:
            prompt_tokens = draw_tokens(prompt.tokens, rng)
            output_tokens = draw_tokens(request_class.output_tokens, rng)
        else:
            prompt_tokens, output_tokens = traced.prompt_tokens, traced.output_tokens
        prefix, prefix_tokens, passkey, depth = None, 0, None, 0.0
        if prompt.kind == "passkey":
            passkey = f"{rng.randrange(10_000, 100_000)}"
            depth = min(1.0, prompt.depth.draw(rng))
        elif prompt.shared_prefix is not None:
            prefix = self._prefix(class_name, prompt.shared_prefix, rng)
            prefix_tokens = min(prompt.shared_prefix.tokens, prompt_tokens)
        cancelled = cancel is not None and rng.random() < cancel.share
        return Planned(
            number=number,
            class_name=class_name,
            intended=time,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            prefix=prefix,
            prefix_tokens=prefix_tokens,
            blocks=() if traced is None else traced.blocks,
            block_tokens=0 if traced is None else traced.block_tokens,
            passkey=passkey,
            depth=depth,
            cancel_after=cancel.after.draw(rng) if cancel and cancelled else None,
        )

    def _prefix(self, class_name: str, shared: SharedPrefix, rng: random.Random) -> str:
        known = self._prefixes.setdefault(class_name, 0)
        if known and rng.random() < shared.hit_rate:
            return f"{class_name}/{rng.randrange(known)}"
        self._prefixes[class_name] = known + 1
        return f"{class_name}/{known}"


def make(profile: Profile, seed: int, directory: Path = Path()) -> Plan:
    """The plan of a profile; equal arguments make equal plans.

    The paths of traces are relative to `directory`.

    Raises:
        UsageError: A trace cannot be used, or nothing would be sent.
    """
    drawer = _Drawer(profile, seed)
    arrivals: list[_Arrival] = []
    loops: list[tuple[Closed, dict[str, RequestClass], random.Random]] = []
    for index, (process, classes) in enumerate(profile.streams()):
        rng = random.Random(f"{seed}/arrivals/{index}")
        if isinstance(process, Closed):
            loops.append((process, classes, rng))
        else:
            arrivals.extend(_arriving(process, classes, rng, directory))
    arrivals.sort(key=lambda arrival: arrival.time)
    opened = tuple(
        drawer.draw(number, arrival.class_name, arrival.time, arrival.traced)
        for number, arrival in enumerate(arrivals)
    )
    number = len(opened)
    closed = []
    for process, classes, rng in loops:
        requests = []
        for _ in range(process.requests):
            requests.append(drawer.draw(number, _class(classes, rng), None, None))
            number += 1
        closed.append(Users(process.users, tuple(requests), _think(process, rng)))
    if not number:
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
