"""Drive a run in several processes, for loads that are too much for one."""

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from longrope_loadtest.profiles.planned import Plan, Users
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.lag import Busy
from longrope_loadtest.run.record import Record

LEAD = 0.5  # seconds before the first request, in which the processes start
LOOK = 0.2  # seconds between looks for Ctrl-C
FORK = multiprocessing.get_context("fork")  # so that all share the bodies


class Processes:
    """Processes that each send a part of a run, on the same clock.

    They are forked, so make them while this process has no other threads.
    """

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._children: dict[Connection, _Child] = {}
        run.start = time.perf_counter() + LEAD
        run.began_at = time.time() + LEAD
        for part in split(run.plan, number):
            ours, theirs = FORK.Pipe(duplex=False)
            child = replace(run, plan=part, watchers=[_Telling(theirs)])
            ends = [*self._children, ours]  # of ours, which the fork has too
            process = FORK.Process(target=_drive, args=(child, theirs, ends), daemon=True)
            process.start()
            theirs.close()  # so that the pipe ends with the process
            self._children[ours] = _Child(process, len(part))

    def follow(self) -> None:
        """Wait for the end of the run, and collect its records; tells the run's watchers.

        If a process dies, the others go on, and the run's `deaths` say what is missing.
        """
        with self._control_c():
            while self._children:
                for connection in wait(list(self._children), LOOK):
                    assert isinstance(connection, Connection)
                    self._receive(connection)
                if self._run.interrupted or self._run.stopped:
                    for child in self._children.values():
                        assert child.process.pid is not None
                        os.kill(child.process.pid, signal.SIGINT)
        self._run.records.sort(key=lambda record: record.number)

    def _receive(self, connection: Connection) -> None:
        run = self._run
        child = self._children[connection]
        try:
            word, about = connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # the latter two: ended amid a message
            del self._children[connection]
            child.process.join()
            if not child.is_done:
                run.deaths.append(child.how_it_died())
            return
        if word == "busy":
            child.is_done = True
            run.busy.append(about)
            return
        if word == "ended":
            child.ended += 1
            run.records.append(about)
        for watcher in run.watchers:
            getattr(watcher, word)(about)

    @contextmanager
    def _control_c(self) -> Iterator[None]:
        def interrupt(*_: object) -> None:
            self._run.interrupted = True

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@dataclass
class _Child:
    """A process, and what it has told."""

    process: BaseProcess
    requests: int  # of its part of the plan
    ended: int = 0
    is_done: bool = False

    def how_it_died(self) -> str:
        code = self.process.exitcode
        how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with status {code}"
        return (
            f"A sending process ended {how}: {self.requests - self.ended} of its "
            f"{self.requests} requests are missing from the figures."
        )


def split(plan: Plan, number: int) -> list[Plan]:
    """A plan in at most `number` parts: its arrivals in turn, and the users of its closed loops."""
    parts = []
    for at in range(number):
        closed = (_share(users, at, number) for users in plan.closed)
        parts.append(Plan(plan.open[at::number], tuple(users for users in closed if users.number)))
    return [part for part in parts if len(part)]


def _share(users: Users, at: int, number: int) -> Users:
    """The share of process `at`: every number-th user, and as many of the requests."""
    processes = min(number, users.number)  # that have a user
    own = len(range(at, users.number, number))
    return (
        Users(own, users.requests[at::processes], users.think[at::processes])
        if own
        else Users(0, (), ())
    )


class _Telling:
    """A watcher that tells the process that follows, and ends with it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def dispatched(self, record: Record) -> None:
        """Pass it on."""
        self._tell("dispatched", record)

    def ended(self, record: Record) -> None:
        """Pass it on."""
        self._tell("ended", record)

    def _tell(self, word: str, record: Record) -> None:
        try:
            self._connection.send((word, record))
        except BrokenPipeError:  # it was killed: nobody wants this load any more
            os._exit(1)


def _drive(run: Run, connection: Connection, ends: list[Connection]) -> None:
    for end in ends:  # while one is open, the pipe does not break with the process that follows
        end.close()
    # Until the run handles it. Control-C in a terminal reaches every process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run.drive()
    busy: Busy = run.busy[0]
    connection.send(("busy", busy))
