"""Which factor sets served an HTTP answer: what the header and `usage.factor_set` say."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol, TypedDict

from longrope_server.keys.key_file import Key
from longrope_server.keys.usage_ledger import Amounts

HEADER = "x-longrope-factor-set"
ANSWER = "longrope.answer"  # in the scope: the Answer of the request
BEGAN = "longrope.began"  # in the scope: when the HTTP request arrived (time.monotonic)


class SelectsSets(Protocol):
    """The part of the plug-in's Selection that is needed here."""

    def start(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """Index of the set that a request starts with."""
        ...

    def start_session(self) -> int:
        """Index of the set of a session, whose prompt comes in parts."""
        ...

    def finish(self, start: int, total_tokens: int) -> int:
        """Index of the set that computed a request's last token."""
        ...

    def limit(self, index: int) -> int:
        """The max_length of a set."""
        ...


class FactorSetUsage(TypedDict):
    """`usage.factor_set`: sets are named by their max_length."""

    started: int
    finished: int
    promoted: bool


class EngineRequest:
    """One request to the engine: a prompt, and its vector or the sequences sampled from it.

    start: the index of the set that it starts with. request_id: the one that the engine client was
    given.
    """

    def __init__(
        self,
        selection: SelectsSets,
        prompt_tokens: int,
        start: int,
        request_id: str = "",
    ) -> None:
        self.selection = selection
        self.prompt_tokens = prompt_tokens
        self.request_id = request_id
        self.start = start
        self.generated: dict[int, int] = {}  # tokens by index of the sequence

    def add(self, index: int, tokens: int, cumulative: bool) -> None:
        """Notes `tokens` more tokens of sequence `index`, or `tokens` in all if `cumulative`."""
        before = 0 if cumulative else self.tokens(index)
        self.generated[index] = before + tokens

    @property
    def has_answered(self) -> bool:
        """Whether its first token, or its vector, has arrived."""
        return bool(self.generated)

    def tokens(self, index: int) -> int:
        """The number of tokens of sequence `index` so far."""
        return self.generated.get(index, 0)

    def finish_of(self, index: int) -> int:
        """The index of the set that computed the latest token of sequence `index`."""
        return self.selection.finish(self.start, self.prompt_tokens + self.tokens(index))

    @property
    def finish(self) -> int:
        """The index of the largest set that any of the sequences has reached."""
        return max(map(self.finish_of, self.generated), default=self.start)


class Answer:
    """The engine requests behind one HTTP answer.

    Most answers have one. Several prompts in one call, beam search and the Responses API's tool
    loop have more; then `started` and `finished` are the largest sets that any of them had, and
    `promoted` says whether any was promoted.
    """

    def __init__(self, began: float | None = None, key: Key | None = None) -> None:
        """began: when the HTTP request arrived (time.monotonic); now by default. key: its key."""
        self.began = time.monotonic() if began is None else began
        self.key = key
        self.requests: list[EngineRequest] = []
        # Of the engine requests that have ended, also of a model without factor sets.
        self.amounts = Amounts()
        self.ids: list[str] = []  # of all engine requests
        self.asking = 0  # engine requests that have not ended
        self.quiet = asyncio.Event()  # set whenever the last of them has ended
        # Of the first token: seconds in the engine's queue, and since the HTTP request arrived.
        self.queue_seconds: float | None = None
        self.first_token_seconds: float | None = None
        # Set by the middleware while it holds back the head of the answer, to add its header.
        self.release: Callable[[], Awaitable[None]] | None = None

    @property
    def started(self) -> int | None:
        """The max_length of the largest set that a request started with; None without any."""
        return max(
            (request.selection.limit(request.start) for request in self.requests), default=None
        )

    def factor_set(self) -> FactorSetUsage | None:
        """What `usage.factor_set` says at this moment; None before the first request."""
        if (started := self.started) is None:
            return None
        finishes = [(request, request.finish) for request in self.requests]
        return {
            "started": started,
            "finished": max(request.selection.limit(finish) for request, finish in finishes),
            "promoted": any(finish > request.start for request, finish in finishes),
        }


current_answer: ContextVar[Answer | None] = ContextVar("longrope_answer", default=None)
