"""Drive a run in several processes, for loads that are too much for one."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
        self._children: dict[Connection, BaseProcess] = {}
        run.start = time.perf_counter() + LEAD
        run.began_at = time.time() + LEAD
        for part in split(run.plan, number):
            ours, theirs = FORK.Pipe(duplex=False)
            child = replace(run, plan=part, watchers=[_Telling(theirs)])
            process = FORK.Process(target=_drive, args=(child, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the pipe ends with the process
            self._children[ours] = process

    def follow(self) -> None:
        """Wait for the end of the run, and collect its records; tells the run's watchers.

        Raises:
            RuntimeError: A process died.
        """
        processes = list(self._children.values())
        with self._control_c():
            while self._children:
                for connection in wait(list(self._children), LOOK):
                    assert isinstance(connection, Connection)
                    self._receive(connection)
                if self._run.interrupted:
                    for process in self._children.values():
                        assert process.pid is not None
                        os.kill(process.pid, signal.SIGINT)
        for process in processes:
            process.join()
        self._run.records.sort(key=lambda record: record.number)
        if len(self._run.busy) < len(processes):
            raise RuntimeError("a process of the load tester died")

    def _receive(self, connection: Connection) -> None:
        run = self._run
        try:
            word, about = connection.recv()
        except EOFError:
            del self._children[connection]
            return
        if word == "busy":
            run.busy.append(about)
            return
        if word == "ended":
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
    """A watcher that tells the process that follows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def dispatched(self, record: Record) -> None:
        """Pass it on."""
        self._connection.send(("dispatched", record))

    def ended(self, record: Record) -> None:
        """Pass it on."""
        self._connection.send(("ended", record))


def _drive(run: Run, connection: Connection) -> None:
    # Until the run handles it. Control-C in a terminal reaches every process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run.drive()
    busy: Busy = run.busy[0]
    connection.send(("busy", busy))
