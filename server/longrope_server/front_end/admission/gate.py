"""Lets requests in, each in one transaction: at once, in their turn, or not at all."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from longrope_server.front_end.admission.ledger import Ledger, State, Sum
from longrope_server.front_end.admission.limits import Limit, Limits
from longrope_server.front_end.openai_error import Refusal, RefusedError
from longrope_server.keys.key_file import NOBODY, Key, Quota

Waited = Callable[[int, float], None]
"""Called with the length class and the seconds that a request waited to be let in."""

# Requests of another process end without any sign to this one, so it polls.
LOOK_SECONDS = 0.05
# openai's clients honour a Retry-After of up to a minute.
LONGEST_RETRY = 60


def ignore_wait(bound: int, seconds: float) -> None:
    """Does nothing, for a gate that nobody watches."""


@dataclass(eq=False)
class Ticket:
    """A request under way. bound: its length class. tokens: those of all its prompts.

    charged: the tokens that its key's quota has paid.
    """

    key: str
    quota: Quota
    bound: int
    tokens: int
    state: State
    charged: int = 0
    since: float = 0.0  # when it was let in; 0 before
    has_asked: bool = False  # an engine
    has_left: bool = False


@dataclass(eq=False)
class _Waiter:
    """A ticket that waits to be in flight in class `bound`."""

    ticket: Ticket
    bound: int
    tokens: int
    let_in: asyncio.Future[None]
    began: float


class Gate:
    """Admission by length, for one API process; the counts are those of the whole server.

    Within a class, requests are let in first come, first served. A full class does not hold up the
    others.
    """

    def __init__(self, limits: Limits, ledger: Ledger, waited: Waited = ignore_wait) -> None:
        self.limits = limits
        self.ledger = ledger
        self.waited = waited
        self.waiting: dict[int, deque[_Waiter]] = defaultdict(deque)
        self.seconds: dict[int, float] = {}  # by class: how long its requests take, smoothed
        self.looking: asyncio.Task[None] | None = None

    async def enter(
        self, tokens: int, key: Key | None, gone: Callable[[], Awaitable[None]]
    ) -> Ticket | None:
        """Waits for a place for a request of about `tokens`.

        gone: waits for the client to disconnect; if that happens first, the result is None. Raises
        RefusedError: 429 for the key's quota, 503 if the server is full.
        """
        began = time.monotonic()
        with self.ledger.transaction():
            ticket = self._ticket(tokens, key)
        if ticket.state == "queued" and not await self._wait_in_queue(ticket, gone):
            return None
        ticket.since = time.monotonic()
        self.waited(ticket.bound, ticket.since - began)
        return ticket

    async def correct(self, ticket: Ticket, tokens: int, longest: int) -> None:
        """Corrects the tokens of a request in flight, once its prompts are tokenised.

        tokens: the sum over its prompts. longest: those of the longest one. If the longest prompt
        belongs to a longer class, waits for a place there. Meanwhile the request keeps its present
        place, but without its tokens. It never waits for a shorter class, so no two requests wait
        for each other's place. There may be only one call at a time for a ticket. Raises
        CancelledError if the request has left meanwhile.
        """
        if ticket.has_left:
            raise asyncio.CancelledError
        bound = self.limits.class_of(longest)
        with self.ledger.transaction():
            self._charge(ticket, 0, tokens)
            moves = bound <= ticket.bound or (
                not self._in_line(bound) and self._has_place(ticket, bound, tokens)
            )
            if moves:
                self._move(ticket, bound, tokens)
            else:
                self._move(ticket, ticket.bound, 0)
        waiter = None if moves else self._wait(ticket, bound, tokens)
        self._let_in()
        if waiter is None:
            return
        try:
            await waiter.let_in
        finally:
            self._stop_waiting(waiter)

    def leave(self, ticket: Ticket) -> None:
        """Frees the place of a request, however it ended.

        Its key gets the tokens back if no engine was asked.
        """
        with self.ledger.transaction():
            if not ticket.has_asked:
                self._charge(ticket, 0, 0)
            self.ledger.add(ticket.bound, ticket.key, ticket.state, -1, -ticket.tokens)
        ticket.has_left = True
        if ticket.since:
            took = time.monotonic() - ticket.since
            before = self.seconds.get(ticket.bound, took)
            self.seconds[ticket.bound] = before + 0.2 * (took - before)
        self._let_in()

    @contextmanager
    def aside(self, key: Key | None) -> Iterator[None]:
        """Counts a request without tokens that takes no place, because it asks no engine.

        Raises RefusedError, 429, for the key's quota.
        """
        name, quota = _quota_of(key)
        bound = self.limits.class_of(0)
        with self.ledger.transaction():
            self._check_quota(name, quota)
            self.ledger.charge(name, quota, 1, 0)
            self.ledger.add(bound, name, "aside", 1, 0)
        try:
            yield
        finally:
            with self.ledger.transaction():
                self.ledger.add(bound, name, "aside", -1, 0)

    def _ticket(self, tokens: int, key: Key | None) -> Ticket:
        name, quota = _quota_of(key)
        self._check_quota(name, quota)
        ticket = Ticket(name, quota, self.limits.class_of(tokens), tokens, "in_flight")
        queued = self.ledger.usage()["queued"]
        mine = queued[ticket.bound]
        in_line = mine.requests + self._in_line(ticket.bound)
        if in_line or not self._has_place(ticket, ticket.bound, tokens):
            ticket.state = "queued"
            for limit, count in (
                (self.limits.classes[ticket.bound], mine),
                (self.limits, _total(queued)),
            ):
                if limit.queued is not None and count.requests >= limit.queued:
                    raise self._full(ticket.bound, count.requests)
        self._charge(ticket, 1, tokens)
        self.ledger.add(ticket.bound, name, ticket.state, 1, tokens)
        return ticket

    def _charge(self, ticket: Ticket, requests: int, tokens: int) -> None:
        """Takes the requests from the key's quota, and what `tokens` are more than it has paid."""
        self.ledger.charge(ticket.key, ticket.quota, requests, tokens - ticket.charged)
        ticket.charged = tokens

    def _check_quota(self, name: str, quota: Quota) -> None:
        if quota.in_flight is not None and self.ledger.under_way(name) >= quota.in_flight:
            raise _over_quota(f"{quota.in_flight} requests at once", 1.0)
        if seconds := self.ledger.wait_for(name, quota):
            rates = (
                (quota.requests_per_minute, "requests"),
                (quota.tokens_per_minute, "tokens"),
            )
            text = " and ".join(f"{rate:,} {unit}" for rate, unit in rates if rate is not None)
            raise _over_quota(f"{text} a minute", seconds)

    def _has_place(self, ticket: Ticket, bound: int, tokens: int) -> bool:
        """Whether the ticket may be in flight in class `bound` with this many tokens."""
        in_flight = self.ledger.usage()["in_flight"]
        others = _total(in_flight)
        if ticket.since:  # it is one of them
            others += Sum(-1, -ticket.tokens)
        return _fits(self.limits.classes[bound], in_flight[bound], tokens) and _fits(
            self.limits, others, tokens
        )

    def _full(self, bound: int, queued: int) -> RefusedError:
        places = self.limits.classes[bound].in_flight or self.limits.in_flight or 1
        seconds = self.seconds.get(bound, 1.0) * (queued + 1) / places
        message = f"The server is full for requests of up to {bound:,} tokens."
        return RefusedError(
            Refusal(503, "server_full", message, retry_after=_whole_seconds(seconds))
        )

    async def _wait_in_queue(self, ticket: Ticket, gone: Callable[[], Awaitable[None]]) -> bool:
        """Waits, and returns whether the ticket was let in; if not, it has left."""
        waiter = self._wait(ticket, ticket.bound, ticket.tokens)
        leaving = asyncio.ensure_future(gone())
        entered = False
        try:
            await asyncio.wait(
                {waiter.let_in, leaving},
                timeout=self.limits.queue_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if entered := waiter.let_in.done():
                return True
            if leaving.done():
                return False
            raise self._full(ticket.bound, len(self.waiting[ticket.bound]))
        finally:
            leaving.cancel()
            self._stop_waiting(waiter)
            if not entered:
                self.leave(ticket)

    def _wait(self, ticket: Ticket, bound: int, tokens: int) -> _Waiter:
        let_in = asyncio.get_running_loop().create_future()
        waiter = _Waiter(ticket, bound, tokens, let_in, time.monotonic())
        line = self.waiting[bound]
        # A request that has a place goes before those that have none, because they may be waiting
        # for its place.
        line.insert(self._in_line(bound) if ticket.since else len(line), waiter)
        if self.ledger.is_shared and self.looking is None:
            self.looking = asyncio.create_task(self._look())
        return waiter

    def _in_line(self, bound: int) -> int:
        """The number of requests that have a place in a shorter class and wait for one here."""
        return sum(1 for waiter in self.waiting[bound] if waiter.ticket.since)

    def _stop_waiting(self, waiter: _Waiter) -> None:
        if waiter in self.waiting[waiter.bound]:
            self.waiting[waiter.bound].remove(waiter)

    async def _look(self) -> None:
        """Lets in requests for which other processes have made room, while any request waits."""
        try:
            while any(self.waiting.values()):
                await asyncio.sleep(LOOK_SECONDS)
                self._let_in()
        finally:
            self.looking = None

    def _let_in(self) -> None:
        """While there are places, lets in the first of each class, the longest waiting first."""
        full: set[int] = set()
        while firsts := [
            line[0] for bound, line in self.waiting.items() if line and bound not in full
        ]:
            waiter = min(firsts, key=lambda first: first.began)
            if waiter.ticket.has_left:
                self.waiting[waiter.bound].popleft()
                waiter.let_in.cancel()
                continue
            left_behind = waiter.ticket.bound
            with self.ledger.transaction():
                if not self._has_place(waiter.ticket, waiter.bound, waiter.tokens):
                    full.add(waiter.bound)
                    continue
                self._move(waiter.ticket, waiter.bound, waiter.tokens)
            self.waiting[waiter.bound].popleft()
            full.discard(left_behind)
            if not waiter.let_in.done():
                waiter.let_in.set_result(None)

    def _move(self, ticket: Ticket, bound: int, tokens: int) -> None:
        """Moves the ticket to class `bound`, in flight with this many tokens."""
        self.ledger.add(ticket.bound, ticket.key, ticket.state, -1, -ticket.tokens)
        self.ledger.add(bound, ticket.key, "in_flight", 1, tokens)
        ticket.bound, ticket.tokens, ticket.state = bound, tokens, "in_flight"


def _quota_of(key: Key | None) -> tuple[str, Quota]:
    return (key.name, key.quota) if key else (NOBODY, Quota())


def _fits(limit: Limit, used: Sum, tokens: int) -> bool:
    if limit.in_flight is not None and used.requests >= limit.in_flight:
        return False
    alone = used.tokens == 0  # apart from requests that wait for a longer class
    return limit.tokens is None or alone or used.tokens + tokens <= limit.tokens


def _total(by_class: dict[int, Sum]) -> Sum:
    return sum(by_class.values(), Sum())


def _over_quota(quota: str, seconds: float) -> RefusedError:
    message = f"This API key's quota is {quota}."
    wait = _whole_seconds(seconds)
    return RefusedError(
        Refusal(429, "rate_limit_exceeded", message, reason="key_quota", retry_after=wait)
    )


def _whole_seconds(seconds: float) -> int:
    return min(max(1, -int(-seconds // 1)), LONGEST_RETRY)
