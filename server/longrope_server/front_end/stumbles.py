"""Answers what the application raises if the client caused it, or if a stream has begun.

A pure ASGI piece. What vLLM raises while it validates, converts and tokenises a request is the
client's error (400) as long as no engine has the request. Failed arithmetic on the request's
numbers is the client's error at any time. Anything else is the server's, and vLLM answers 500. A
stream that has begun ends with an error event, not with a broken connection.
"""

import logging
import traceback
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longrope_server.front_end.bodies.body_limit import BODY
from longrope_server.front_end.openai_error import (
    REFUSED,
    Count,
    Refusal,
    ignore_refusal,
    is_event_stream,
)
from longrope_server.front_end.vllm_patches.stumbling import is_stumble, stumble_sentence

FAILED = Refusal(500, "answer_failed", "The server failed before this answer was complete.")

logger = logging.getLogger("vllm.longrope")


class Stumbles:
    """Answers 400 in place of `app` if a request made it stumble; ends streams with an error."""

    def __init__(self, app: ASGIApp, refused: Count = ignore_refusal) -> None:
        self.app = app
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        token = _current.set(answer)
        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            raise
        except Exception as error:
            # If it is too late for an exception handler to answer, Starlette wraps the error.
            cause = (answer.has_begun and error.__cause__) or error
            is_clients = BODY in scope and is_stumble(cause, answer.has_engine)
            if not answer.is_open_stream and (answer.has_begun or not is_clients):
                raise
            _log(cause, scope)
            refusal = FAILED
            if is_clients:
                refusal = Refusal(400, "unreadable_request", stumble_sentence(cause))
            self.refused(refusal.reason)
            if answer.has_begun:
                scope[REFUSED] = refusal.reason
                event = refusal.event()
                await send({"type": "http.response.body", "body": event, "more_body": False})
            else:
                await refusal.send(scope, receive, send)
        finally:
            _current.reset(token)


class _Answer:
    """Passes an answer on and remembers its state. has_engine: an engine has the request.

    It is an object, because vLLM's handlers run in tasks, whose context variables are copies.
    """

    def __init__(self, send: Send) -> None:
        self.send = send
        self.has_engine = False
        self.has_begun = False
        self.is_open_stream = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.is_open_stream = is_event_stream(Headers(raw=message["headers"]))
        elif not message.get("more_body"):
            self.is_open_stream = False
        await self.send(message)


_current: ContextVar[_Answer | None] = ContextVar("longrope_stumbles", default=None)


def engine_has_it() -> None:
    """Notes that an engine has the request that is being answered."""
    if (answer := _current.get()) is not None:
        answer.has_engine = True


def _log(error: BaseException, scope: Scope) -> None:
    """Logs where the error was raised, but not its text, which may contain a prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    logger.error("%s failed: %s at %s", scope["path"], type(error).__name__, where)
