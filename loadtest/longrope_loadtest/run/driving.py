"""Drive a run: send each request at its time, or as soon as a user is free."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import uvloop  # with it, aiohttp uses a third less of our core

from longrope_loadtest.profiles.planned import Plan, Planned, Users
from longrope_loadtest.profiles.profile import Profile, RequestClass, Talk
from longrope_loadtest.run.answers import Answer
from longrope_loadtest.run.bodies import PATHS, Bodies
from longrope_loadtest.run.client import Client, Sending, connected
from longrope_loadtest.run.history import History
from longrope_loadtest.run.lag import Busy, ClientLoad, LoopLag, client_load
from longrope_loadtest.run.record import Record

LEAD = 0.2  # seconds before the first request


@dataclass(frozen=True)
class Target:
    """The server and its model."""

    url: str
    model: str
    key: str | None = field(repr=False)
    reset_cache: bool = False  # whether its prefix cache is emptied before a run


class Watcher(Protocol):
    """Is told about requests during the run, in the event loop, so it must be quick."""

    def dispatched(self, record: Record) -> None:
        """A request is about to be sent."""

    def ended(self, record: Record) -> None:
        """A request has ended."""


@dataclass
class Run:
    """A run: what should be sent, and what was sent."""

    plan: Plan
    profile: Profile
    bodies: Bodies
    target: Target
    watchers: list[Watcher] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)  # by number once it is over
    busy: list[Busy] = field(default_factory=list)  # of each process that sent it, once it is over
    deaths: list[str] = field(default_factory=list)  # a sentence for each process that died
    began_at: float = 0  # Unix time of second 0
    interrupted: bool = False  # by Ctrl-C
    stopped: bool = False  # by a watcher
    _sending: "asyncio.Task[None] | None" = field(default=None, init=False)
    start: float | None = None  # second 0, by time.perf_counter; None: as soon as possible

    @property
    def load(self) -> ClientLoad:
        """How busy the client was, once the run is over."""
        return client_load(self.records, self.busy, self.deaths, is_open=self.profile.is_open())

    def drive(self) -> None:
        """Run until every request has ended, or until `stop` or Ctrl-C."""
        with _no_collection():
            uvloop.run(self._drive())

    def stop(self) -> None:
        """End the run from within: send nothing more, and cancel the running requests."""
        self.stopped = True
        self._cancel()

    def _interrupt(self) -> None:
        self.interrupted = True
        self._cancel()

    def _cancel(self) -> None:
        if self._sending is not None:  # else, other processes send
            self._sending.cancel()

    async def _drive(self) -> None:
        start = self.start or time.perf_counter() + LEAD
        self.began_at = time.time() + start - time.perf_counter()
        lag = LoopLag()
        watching = asyncio.create_task(lag.watch())
        async with connected(self.target.url, self.target.key, start) as client:
            self._sending = asyncio.create_task(self._send_all(client, start))
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        watching.cancel()
        self.records.sort(key=lambda record: record.number)
        self.busy = [lag.busy()]

    async def _send_all(self, client: Client, start: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for users in self.plan.closed:
                queue = iter(zip(users.requests, users.think, strict=True))
                for _ in range(users.number):
                    tasks.create_task(self._user(client, start, users, queue))
            for planned in self.plan.open:
                assert planned.intended is not None
                ahead = start + planned.intended - time.perf_counter()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                tasks.create_task(self._send(client, planned, planned.intended))

    async def _user(
        self, client: Client, start: float, users: Users, queue: Iterator[tuple[Planned, float]]
    ) -> None:
        due = 0.0
        for planned, think in queue:
            due += think
            await asyncio.sleep(start + due - time.perf_counter())
            await self._send(client, planned, due)
            due = client.clock()

    async def _send(self, client: Client, first: Planned, intended: float) -> None:
        """Send a request, or a conversation turn by turn until one is not answered."""
        body: memoryview | bytes = self.bodies.of(first.number)
        record = self._record(first, body, intended)
        answer = await self._request(client, first, body, record)
        if not first.later:
            return
        prompt = self.profile.classes[first.class_name].prompt
        assert isinstance(prompt, Talk)
        history = History(reasoning=prompt.history == "reasoning_and_answer")
        previous = first
        for turn in first.later:
            if record.outcome != "complete":
                return
            history.add(self.bodies.of(previous.number), answer)
            body = history.body(self.bodies.of(turn.number))
            due = record.ended + turn.think
            await asyncio.sleep(due - client.clock())
            record = self._record(turn, body, due, record)
            answer = await self._request(client, turn, body, record)
            previous = turn

    def _record(
        self,
        planned: Planned,
        body: memoryview | bytes,
        intended: float,
        previous: Record | None = None,
    ) -> Record:
        """The record of a request that is about to be sent; `previous` is the previous turn's."""
        record = Record(
            number=planned.number,
            class_name=planned.class_name,
            intended=intended,
            planned_prompt_tokens=planned.prompt_tokens,
            planned_output_tokens=planned.output_tokens,
            body_bytes=len(body),
            warm_up=previous.warm_up if previous else intended < self.profile.warm_up,
            passkey=planned.passkey,
            turn=planned.turn,
        )
        if planned.turn is not None:
            record.conversation = previous.conversation if previous else planned.number
            record.turns = previous.turns if previous else len(planned.turns())
        return record

    async def _request(
        self, client: Client, planned: Planned, body: memoryview | bytes, record: Record
    ) -> Answer:
        request_class = self.profile.classes[planned.class_name]
        sending = Sending(
            path=PATHS[request_class.api],
            stream=_is_streamed(planned, request_class),
            timeout=request_class.timeout,
            stall=request_class.stall,
            cancel_after=planned.cancel_after,
            retries=self.profile.retries,
        )
        for watcher in self.watchers:
            watcher.dispatched(record)
        try:
            return await client.send(body, sending, record)
        finally:
            self.records.append(record)
            for watcher in self.watchers:
                watcher.ended(record)


def _is_streamed(planned: Planned, request_class: RequestClass) -> bool:
    if planned.line is not None and request_class.prompt.kind == "replay":
        return bool(planned.line.fields.get("stream"))
    return request_class.stream


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Disable the garbage collector, whose pauses would add to the latencies."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
