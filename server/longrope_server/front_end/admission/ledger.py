"""Counts what is under way, where every API process of the server sees it.

The processes share the counts through SQLite: a transaction is atomic across processes and costs
some ten microseconds. Nothing here has to outlive the server, so nothing is flushed to a disk.
"""

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from longrope_server.keys.key_file import Quota

State = Literal["in_flight", "queued", "aside"]
"""With a place, waiting for one, or without one: aside."""
Change = Callable[[int, State, int, int], None]
"""Called with a length class, a state, and the changes in its requests and tokens."""

IN_MEMORY = ":memory:"

TABLES = """
CREATE TABLE IF NOT EXISTS counts (
    process INTEGER, class INTEGER, key TEXT, state TEXT, requests INTEGER, tokens INTEGER,
    PRIMARY KEY (process, class, key, state)
);
CREATE TABLE IF NOT EXISTS balances (
    key TEXT, unit TEXT, balance REAL, at REAL, PRIMARY KEY (key, unit)
);
"""


@dataclass
class Sum:
    """Requests and the tokens of their prompts."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.requests + other.requests, self.tokens + other.tokens)


Usage = dict[State, dict[int, Sum]]
"""By state, then by length class."""


def ignore_change(bound: int, state: State, requests: int, tokens: int) -> None:
    """Does nothing, for a ledger that nobody watches."""


class Ledger:
    """Counts of requests and tokens, and the balances of the keys' quotas.

    path: a file that all API processes of one server open, or IN_MEMORY if there is only one.
    """

    def __init__(self, path: str = IN_MEMORY, changed: Change = ignore_change) -> None:
        self.is_shared = path != IN_MEMORY
        self.changed = changed
        self.process = os.getpid()
        self.database = sqlite3.connect(path, isolation_level=None, timeout=30)
        self.database.execute("PRAGMA journal_mode = MEMORY")
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.executescript(TABLES)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keeps other processes from the database; an exception undoes what was written."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    def add(self, bound: int, key: str, state: State, requests: int, tokens: int) -> None:
        """Adds requests and tokens, which may be negative, to the counts of a class and a key."""
        self.database.execute(
            "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "requests = requests + excluded.requests, tokens = tokens + excluded.tokens",
            (self.process, bound, key, state, requests, tokens),
        )
        self.changed(bound, state, requests, tokens)

    def usage(self) -> Usage:
        """What is under way in all processes."""
        by_state: Usage = {state: defaultdict(Sum) for state in get_args(State)}
        rows = self.database.execute(
            "SELECT state, class, sum(requests), sum(tokens) FROM counts GROUP BY state, class"
        )
        for state, bound, requests, tokens in rows:
            by_state[state][bound] = Sum(requests, tokens)
        return by_state

    def under_way(self, key: str) -> int:
        """Requests of one key, in every state."""
        (requests,) = self.database.execute(
            "SELECT coalesce(sum(requests), 0) FROM counts WHERE key = ?", (key,)
        ).fetchone()
        return int(requests)

    def wait_for(self, key: str, quota: Quota) -> float:
        """Seconds until a key's quotas allow a request and part of a token; 0 if they do now."""
        waits = [0.0]
        for unit, rate in _rates(quota):
            missing = (1.0 if unit == "requests" else 1e-6) - self._balance(key, unit, rate)
            if missing > 0:
                waits.append(missing * 60 / rate + 1e-3)
        return max(waits)

    def charge(self, key: str, quota: Quota, requests: int, tokens: int) -> None:
        """Takes from the balances. They may fall below zero, so that the largest request passes."""
        for unit, rate in _rates(quota):
            amount = requests if unit == "requests" else tokens
            balance = min(self._balance(key, unit, rate) - amount, rate)
            self.database.execute(
                "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?)",
                (key, unit, balance, time.monotonic()),
            )

    def _balance(self, key: str, unit: str, rate: int) -> float:
        """What a key has left, which grows by `rate` a minute up to the amount of one minute."""
        row = self.database.execute(
            "SELECT balance, at FROM balances WHERE key = ? AND unit = ?", (key, unit)
        ).fetchone()
        if row is None:
            return float(rate)
        balance, at = row
        return min(float(balance) + (time.monotonic() - at) * rate / 60, float(rate))


def _rates(quota: Quota) -> Iterator[tuple[str, int]]:
    if quota.requests_per_minute is not None:
        yield "requests", quota.requests_per_minute
    if quota.tokens_per_minute is not None:
        yield "tokens", quota.tokens_per_minute
