"""Asks the engine once a second how far the prompts without a token yet are computed.

The engine answers between two steps, from a dictionary that its scheduler keeps anyway. It is not
asked while nobody waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from longrope_server.front_end.factor_set.answer import EngineRequest

Ask = Callable[[Sequence[str]], Awaitable[dict[str, int]]]
"""Takes request ids; returns the computed tokens of those that the engine knows."""

logger = logging.getLogger("vllm.longrope")  # vLLM gives its own loggers a handler


class Prefills:
    """The prefills of this process that clients wait for."""

    def __init__(self, ask: Ask, seconds: float) -> None:
        self.ask = ask
        self.seconds = seconds
        self.watched: dict[str, int] = {}
        self.asking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, requests: Sequence[EngineRequest]) -> Iterator[None]:
        """Keeps `computed` up to date for these requests."""
        for request in requests:
            self.watched.setdefault(request.request_id, 0)
        if self.asking is None and self.watched:
            self.asking = asyncio.create_task(self._keep_asking())
        try:
            yield
        finally:
            for request in requests:
                self.watched.pop(request.request_id, None)

    def computed(self, request: EngineRequest) -> int:
        """Tokens of the prompt whose keys and values are in the KV cache."""
        if request.has_answered:
            return request.prompt_tokens
        return min(self.watched.get(request.request_id, 0), request.prompt_tokens)

    async def _keep_asking(self) -> None:
        try:
            while self.watched:
                try:
                    computed = await self.ask(list(self.watched))
                except Exception as error:  # a dead engine: its requests end by themselves
                    logger.warning("Prefill progress cannot be had: %s", type(error).__name__)
                    computed = {}
                for request_id in computed.keys() & self.watched.keys():
                    self.watched[request_id] = computed[request_id]
                await asyncio.sleep(self.seconds)
        finally:
            self.asking = None
