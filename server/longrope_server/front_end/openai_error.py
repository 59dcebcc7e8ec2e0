"""Errors of our own pieces, in the shape that OpenAI's clients read."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

Count = Callable[[str], None]
"""Called with the reason of each refusal."""

REFUSED = "longrope.refused"  # in the scope: the reason of a refusal that was sent


def ignore_refusal(reason: str) -> None:
    """Does nothing, for a piece that is used alone."""


class Refusal:
    """Why a request is not served, as its client is told.

    status: the HTTP status. code: OpenAI's machine-readable name. message: a sentence. reason: the
    label of the metric, `code` by default. retry_after: seconds after which the same request may
    succeed.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        reason: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.reason = reason or code
        self.headers = dict(headers)
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = {429: "rate_limit_error"}
        return {
            "error": {
                "message": self.message,
                "type": kind.get(
                    self.status, "server_error" if self.status >= 500 else "invalid_request_error"
                ),
                "param": None,
                "code": self.code,
            }
        }

    def event(self) -> bytes:
        """The same as the end of a stream that has begun, in the form that vLLM uses."""
        return b"data: " + json.dumps(self.document()).encode() + b"\n\ndata: [DONE]\n\n"

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an HTTP request, or closes a WebSocket before it is accepted."""
        scope[REFUSED] = self.reason
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": self.message})
            return
        response = JSONResponse(self.document(), self.status, self.headers)
        await response(scope, receive, send)


class RefusedError(Exception):
    """Carries a refusal to the piece that answers with it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@asynccontextmanager
async def answering_refusals(
    scope: Scope, receive: Receive, send: Send, refused: Count
) -> AsyncIterator[None]:
    """Answers the request with the refusal that the block raises, if it raises RefusedError."""
    try:
        yield
    except RefusedError as error:
        refused(error.refusal.reason)
        await error.refusal.send(scope, receive, send)


async def http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such route, no such method), in the same shape."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    refusal = Refusal(error.status_code, phrase, f"{error.detail.rstrip('.')}.")
    return JSONResponse(refusal.document(), error.status_code, error.headers)


def is_event_stream(headers: Headers) -> bool:
    """Whether an answer with these headers is a stream of server-sent events."""
    return headers.get("content-type", "").startswith("text/event-stream")
