"""Refuses a JSON body that the code behind cannot hold, before it is routed or parsed.

A pure ASGI piece. Nesting too deep for Python's stack, numbers beyond a double, half a surrogate
pair and bytes that are not UTF-8 pass the parser, and raise much later, where they are used.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from longrope_server.front_end.bodies.body_limit import BODY, Body
from longrope_server.front_end.bodies.json_scan import JSONScan, UnreadableError
from longrope_server.front_end.openai_error import Count, Refusal, ignore_refusal


class ReadableJSON:
    """Answers 400 in place of `app` if `JSONScan` refuses a JSON body.

    Scans the bodies that `BodyLimit`, in front, has read.
    """

    def __init__(self, app: ASGIApp, refused: Count = ignore_refusal) -> None:
        self.app = app
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        body: Body | None = scope.get(BODY)
        if body is not None and "json" in Headers(scope=scope).get("content-type", "").lower():
            try:
                await _scan(body)
            except UnreadableError as error:
                refusal = Refusal(400, "unreadable_body", str(error))
                self.refused(refusal.reason)
                await refusal.send(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def _scan(body: Body) -> None:
    scan = JSONScan()
    for chunk in tuple(body.chunks):
        scan.feed(chunk)
        await asyncio.sleep(0)  # other requests go on between the chunks of a large body
    scan.finish()
