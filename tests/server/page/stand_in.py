"""The server behind the page as a test decides it, without an engine."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from longrope_server.front_end.page import page
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tests.server.asgi import port_of


@dataclass
class StandIn:
    """What is served, and what came.

    model, limit: what is served, up to how many tokens; other models are not known. refusals: for
    each path, answers that are given once each in place of the usual ones. hanging: paths that are
    never answered. locked: whether every answer is that a key is needed. at_once: the most
    documents that were read at the same time.
    """

    url: str = ""
    model: str = "tiny"
    limit: int = 1000
    refusals: dict[str, list[Response]] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    locked: bool = False
    paths: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    reading: int = 0
    at_once: int = 0

    def refuse(self, path: str, status: int, message: str, **headers: str) -> None:
        body = {"error": {"message": message}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.refusals.setdefault(path, []).append(JSONResponse(body, status, named))

    async def usual(self, path: str, body: bytes) -> Response:
        if path == "v1/models":
            return JSONResponse({"data": [{"id": self.model, "max_model_len": self.limit}]})
        if path == "ready":
            return PlainTextResponse("")
        if path == "metrics":
            return PlainTextResponse('longrope_tokens_in_flight{length_class="0-1000"} 0\n')
        if path == "v1/text":
            self.reading += 1
            self.at_once = max(self.at_once, self.reading)
            await asyncio.sleep(0.2)
            self.reading -= 1
            return PlainTextResponse(body)
        if path in ("tokenize", "v1/chat/completions"):
            asked = json.loads(body)
            if asked["model"] != self.model:
                message = f"The model `{asked['model']}` does not exist."
                return JSONResponse({"error": {"message": message}}, 404)
            content = asked["messages"][0]["content"]
            if path == "tokenize":
                return JSONResponse({"count": len(content)})
            self.asked.append(content)
            choice = {"index": 0, "delta": {"content": "Paris."}, "finish_reason": "stop"}
            chunk = json.dumps({"choices": [choice]})
            return StreamingResponse(iter([f"data: {chunk}\n\n", "data: [DONE]\n\n"]))
        return JSONResponse({"error": {"message": "Not here."}}, 404)


@contextlib.contextmanager
def serving() -> Iterator[StandIn]:
    """A stand-in on a port of its own."""
    stand_in, app = StandIn(), FastAPI()
    page.add_routes(app)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer(path: str, request: Request) -> Response:
        body = await request.body()
        stand_in.paths.append(path)
        if stand_in.locked and "authorization" not in request.headers:
            return JSONResponse({"error": {"message": "No API key came with the request."}}, 401)
        while path in stand_in.hanging:
            await asyncio.sleep(0.1)
        if refusals := stand_in.refusals.get(path):
            return refusals.pop(0)
        return await stand_in.usual(path, body)

    config = uvicorn.Config(app, port=0, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        stand_in.url = f"http://127.0.0.1:{port_of(server)}/"
        yield stand_in
    finally:
        stand_in.hanging.clear()
        server.should_exit = True
        thread.join()
