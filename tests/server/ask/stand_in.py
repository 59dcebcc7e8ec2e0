"""An OpenAI-compatible server whose behaviour a test decides, on a real socket."""

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """An answer that is no stream: a refusal, or what no OpenAI-compatible server says."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, message: str, **headers: str) -> Reply:
    return Reply(status, json.dumps({"error": {"message": message}}).encode(), headers)


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


def usage(prompt: int, answer: int, **more: Any) -> bytes:
    numbers = {"prompt_tokens": prompt, "completion_tokens": answer, **more}
    return event({"choices": [], "usage": numbers})


DONE = b"data: [DONE]\n\n"
PARIS = [delta(""), delta("The capital"), delta(" is Paris.", "stop"), usage(100, 7), DONE]


class StandIn:
    """What the server does; a test changes it before it asks.

    tokens: the count of /tokenize, None for a server without it. replies: given one each to the
    first requests, in place of the rest. stream: parts of the chat's stream, numbers are seconds
    of silence. ending: whether the stream then ends, breaks, or is held until the client leaves.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.cards: list[dict[str, Any]] | None = [{"id": "tiny", "max_model_len": 1000}]
        self.tokens: int | None = 100
        self.replies: list[Reply] = []
        self.stream: Sequence[bytes | float] = PARIS
        self.headers: dict[str, str] = {}
        self.ending = "complete"
        self.received: list[Received] = []
        self.left = threading.Event()  # a client has left before the end of its stream

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.received]

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the one chat request."""
        (body,) = [
            request.body for request in self.received if request.path == "/v1/chat/completions"
        ]
        return body

    def reply(self, path: str) -> Reply | None:
        """The answer to a request; None for the stream."""
        if self.replies:
            return self.replies.pop(0)
        if path == "/v1/models" and self.cards is not None:
            return Reply(200, json.dumps({"object": "list", "data": self.cards}).encode())
        if path == "/tokenize" and self.tokens is not None:
            document = {"count": self.tokens, "max_model_len": 1000, "tokens": [1] * self.tokens}
            return Reply(200, json.dumps(document).encode())
        if path == "/v1/chat/completions":
            return None
        return Reply(404, b'{"detail":"Not Found"}')


@contextmanager
def serving() -> Iterator[StandIn]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.stand_in = stand_in = StandIn(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client may leave when it likes
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        stand_in = self.server.stand_in
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        stand_in.received.append(Received(self.path, headers, body))
        reply = stand_in.reply(self.path)
        if reply is None:
            self._stream(stand_in)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def do_POST(self) -> None:
        self.do_GET()

    def _stream(self, stand_in: StandIn) -> None:
        self.close_connection = True
        try:
            self._send(stand_in)
            if stand_in.ending == "held":
                self.connection.settimeout(30)
                if self.rfile.read(1) == b"":
                    stand_in.left.set()
        except ConnectionError:  # it left while parts were on their way
            stand_in.left.set()

    def _send(self, stand_in: StandIn) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in stand_in.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for part in stand_in.stream:
            if isinstance(part, bytes):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            else:
                time.sleep(part)
        if stand_in.ending == "complete":
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
