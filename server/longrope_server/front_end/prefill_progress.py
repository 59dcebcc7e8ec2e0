"""Tells a client that waits for its first token how far its prompt is computed.

It puts comments into a stream of server-sent events; clients have to ignore these:

    : prefill 4096/12000
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.front_end.factor_set.answer import Answer, current_answer
from longrope_server.front_end.openai_error import is_event_stream
from longrope_server.front_end.prefills import Prefills


class PrefillProgress:
    """Adds a comment a second to the streams of `app` that have no token yet.

    It must be inside FactorSetMiddleware, whose Answer knows the requests. Clients that use aiohttp
    get no comments: one of them, `vllm bench serve`, takes a comment and all that follows for one
    event (up to vLLM 0.32, StreamedResponseHandler), and counts the request as failed.
    """

    def __init__(self, app: ASGIApp, prefills: Prefills) -> None:
        self.app = app
        self.prefills = prefills

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        answer = current_answer.get()
        if answer is None or "aiohttp/" in Headers(scope=scope).get("user-agent", ""):
            await self.app(scope, receive, send)
            return
        stream = _Stream(answer, self.prefills, send)
        try:
            await self.app(scope, receive, stream)
        finally:
            stream.stop()


class _Stream:
    """Passes an answer's messages on, with comments in between."""

    def __init__(self, answer: Answer, prefills: Prefills, send: Send) -> None:
        self.answer = answer
        self.prefills = prefills
        self.send = send
        self.sending = asyncio.Lock()
        self.telling: asyncio.Task[None] | None = None
        self.between_events = True

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and is_event_stream(
            Headers(raw=message["headers"])
        ):
            self.telling = asyncio.create_task(self._tell())
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self.stop()
        async with self.sending:
            if body := message.get("body"):
                self.between_events = body.endswith(b"\n\n")
            await self.send(message)

    def stop(self) -> None:
        """Ends the comments."""
        if self.telling is not None:
            self.telling.cancel()

    async def _tell(self) -> None:
        await asyncio.sleep(self.prefills.seconds)
        # The comments leave out requests that come later than this, in tool loops.
        requests = list(self.answer.requests)
        with self.prefills.watching(requests):
            while not all(request.has_answered for request in requests):
                computed = sum(map(self.prefills.computed, requests))
                total = sum(request.prompt_tokens for request in requests)
                comment = f": prefill {computed}/{total}\n\n".encode()
                async with self.sending:
                    if self.between_events:
                        message = {"type": "http.response.body", "body": comment, "more_body": True}
                        await self.send(message)
                await asyncio.sleep(self.prefills.seconds)
