"""An OpenAI-compatible server with known delays that notes when it sent what.

    python -m tests.loadtest.mock_server [--port P] [--max-model-len N] [--key K] [--resets N]
        [--metrics-take SECONDS]

It prints its address once it listens. What it does with a request is said by the field `mock` of
the request's body, see `Behaviour`; what it did is at /mock/truth, which also forgets it.
"""

import argparse
import asyncio
import gc
import json
import re
import socket
import time
import zlib
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import uvicorn

MODEL = "mock"
Json = dict[str, Any]
PASSKEY = re.compile(r"pass key is (\d+)")


@dataclass(frozen=True)
class Behaviour:
    """What to do with one request. Times are seconds."""

    first: float = 0  # from the request's arrival to the first token
    gap: float = 0  # between tokens
    busy: float = 0  # each request holds the server that long: 1 / busy a second is its capacity
    tokens: int | None = None  # else the request's max_tokens
    role_early: bool = True  # before the first token, not with it as vLLM
    eos: bool = False  # the last token has no text, as an end token in vLLM
    status: int = 200
    location: str | None = None  # the header, beside `status`
    refusals: int | None = None  # how often `status` is answered to the same body; None: always
    retry_after: str | None = None
    error_at: int | None = None  # an error event in place of this token
    raw_at: int | None = None  # this token's event is `raw`
    raw: str = ""
    stall_at: int | None = None  # nothing more in place of this token, the connection stays
    end_at: int | None = None  # the stream ends as if it were whole in place of this token
    cut_at: int | None = None  # the connection is closed in place of this token; 0: at once
    after_done: str = "end"  # of the stream; or "cut", or "open": nothing more comes
    usage: bool = True  # where the request asks for it
    cached: int | None = None  # tokens of the prompt
    factor_set: int | str | None = None  # the header, and usage.factor_set
    promoted_to: int | str | None = None
    cookie: bool = False  # whether one is set
    comments: int = 0  # lines before the first token
    passkey: str = "right"  # or "wrong"
    thinks: str = ""  # the first token's event has it as reasoning too
    stall_from: float | None = None  # since the server's first request
    stall_for: float = 0  # seconds in which nothing moves for any request that says so


@dataclass
class Truth:
    """What happened to one request; times by `time.perf_counter`, which all processes share."""

    body: int  # crc32
    length: int  # of the body
    headers: dict[str, str]
    arrived: float
    tokens: list[float] = field(default_factory=list)  # the whole answer's, if not streamed

    def ttft(self) -> float:
        """From the request's arrival to the first token."""
        return self.tokens[0] - self.arrived

    def e2e(self) -> float:
        """From the request's arrival to the last token."""
        return self.tokens[-1] - self.arrived

    def gaps(self) -> list[float]:
        """Between tokens."""
        return [after - before for before, after in pairwise(self.tokens)]


class Mock:
    """The ASGI application."""

    def __init__(
        self, max_model_len: int, key: str | None, resets: int | None, metrics_take: float
    ) -> None:
        self._models = {"data": [{"id": MODEL, "max_model_len": max_model_len}]}
        self._key = key
        self._metrics_take = metrics_take
        self._resets = resets  # how often its cache cannot be emptied yet; None: it has no route
        self._truths: list[Truth] = []
        self._refused: dict[int, int] = {}
        self._began: float | None = None
        self._free = 0.0  # when the requests that hold the server will be over

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        arrived = time.perf_counter()
        path = scope["path"].removeprefix("/behind/a/prefix")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if self._key and headers.get("authorization") != f"Bearer {self._key}":
            await _json(send, {"error": {"message": "no such key"}}, 401)
        elif path.startswith("/moved"):
            place = path.removeprefix("/moved").encode()
            await _json(send, {}, 307, [(b"location", place)])
        elif path == "/v1/models":
            await _json(send, self._models)
        elif path == "/metrics":
            await asyncio.sleep(self._metrics_take)
            await _answer(send, _metrics(len(self._truths)).encode(), b"text/plain")
        elif path == "/reset_prefix_cache" and self._resets is not None:
            self._resets -= 1
            await _json(send, {"success": self._resets < 0})
        elif path == "/mock/resets":
            await _json(send, self._resets)
        elif path == "/mock/truth":
            await _json(send, [asdict(truth) for truth in self._truths])
            self._truths, self._refused, self._began = [], {}, None
        elif path in ("/v1/chat/completions", "/v1/completions"):
            self._began = self._began or arrived
            body = await _body(receive)
            truth = Truth(zlib.crc32(body), len(body), headers, arrived)
            self._truths.append(truth)
            await self._complete(json.loads(body), truth, send)
        else:
            await _json(send, {"error": {"message": "no such path"}}, 404)

    async def _complete(self, request: Json, truth: Truth, send: Any) -> None:
        does = Behaviour(**request.get("mock", {}))
        if does.status != 200:
            times = self._refused.get(truth.body, 0)
            if does.refusals is None or times < does.refusals:
                self._refused[truth.body] = times + 1
                after = [(b"retry-after", does.retry_after.encode())] if does.retry_after else []
                after += [(b"location", does.location.encode())] if does.location else []
                error = {"error": {"message": f"mock says {does.status}"}}
                await _json(send, error, does.status, after)
                return
        if does.cut_at == 0:
            _connection(send).close()
            return
        asked = does.tokens or request.get("max_tokens") or request["max_completion_tokens"]
        begin = truth.arrived + does.first
        if does.busy:
            begin = self._free = max(begin, self._free) + does.busy
        words = _words(request, does, asked)
        usage = _usage(request, does, asked)
        if request.get("stream"):
            await self._stream(request, does, words, usage, truth, begin, send)
            return
        await self._reach(begin + does.gap * (asked - 1), does)
        text = "".join(words)
        message = {"content": text, "reasoning": does.thinks}
        choice = {"message": message} if "messages" in request else {"text": text}
        answer = {"choices": [choice | {"index": 0, "finish_reason": "length"}]}
        truth.tokens.append(time.perf_counter())
        await _json(send, answer | ({"usage": usage} if does.usage else {}), 200, _set(does))

    async def _stream(
        self,
        request: Json,
        does: Behaviour,
        words: list[str],
        usage: Json,
        truth: Truth,
        due: float,
        send: Any,
    ) -> None:
        chat = "messages" in request
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream"),
                    *_set(does),
                    *([(b"set-cookie", b"replica=1; path=/")] if does.cookie else []),
                ],
            }
        )
        role = _event(_delta({"role": "assistant", "content": ""})) if chat else b""
        opening = role if does.role_early else b""
        for number in range(does.comments):
            opening += f": prefill {number}/{does.comments}\n\n".encode()
        if opening:
            await _part(send, opening)
        for number, word in enumerate(words):
            due = await self._reach(due, does)
            if number == does.end_at:
                await _part(send, b"", more=False)
                return
            if number == does.stall_at:
                await asyncio.sleep(3600)
            if number == does.cut_at:
                _connection(send).close()
                return
            if number == does.error_at:
                error = {"error": {"message": "the engine died", "code": 500}}
                await _part(send, _event(error) + b"data: [DONE]\n\n", more=False)
                return
            last = number == len(words) - 1
            event = _word_event(word, chat, last and ("stop" if does.eos else "length"))
            if number == 0 and does.thinks:
                event = _event(_delta({"content": word, "reasoning": does.thinks}))
            if number == does.raw_at:
                event = does.raw.encode()
            if number == 0 and not does.role_early:
                event = role + event
            truth.tokens.append(time.perf_counter())
            await _part(send, event)
            due += does.gap
        end = b"data: [DONE]\n\n"
        if does.usage and request.get("stream_options", {}).get("include_usage"):
            end = _event({"choices": [], "usage": usage}) + end
        await _part(send, end, more=does.after_done != "end")
        if does.after_done == "open":
            await asyncio.sleep(3600)
        if does.after_done == "cut":
            _connection(send).close()

    async def _reach(self, due: float, does: Behaviour) -> float:
        """Waits until `due`, or until the stall is over; when that was meant to be."""
        ahead = due - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        if does.stall_from is None:
            return due
        assert self._began is not None
        begin = self._began + does.stall_from
        end = begin + does.stall_for
        now = time.perf_counter()
        if not begin <= now < end:
            return due
        await asyncio.sleep(end - now)
        return end


def _words(request: Json, does: Behaviour, number: int) -> list[str]:
    words = [" word"] * number
    found = PASSKEY.search(_prompt(request)) if number > 1 else None
    if found:
        key = found[1] if does.passkey == "right" else "0" * len(found[1])
        words[:2] = [f" {key[:2]}", key[2:]]
    if does.eos:
        words[-1] = ""
    return words


def _prompt(request: Json) -> str:
    if "messages" in request:
        return " ".join(_text(message["content"]) for message in request["messages"])
    prompt = request["prompt"]
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else content[0]["text"]


def _usage(request: Json, does: Behaviour, output: int) -> Json:
    usage: Json = {"prompt_tokens": len(_prompt(request).split()), "completion_tokens": output}
    if does.cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": does.cached}
    if does.factor_set is not None:
        usage["factor_set"] = {
            "started": does.factor_set,
            "finished": does.promoted_to or does.factor_set,
            "promoted": does.promoted_to is not None,
        }
    return usage


def _set(does: Behaviour) -> list[tuple[bytes, bytes]]:
    if does.factor_set is None:
        return []
    return [(b"x-longrope-factor-set", str(does.factor_set).encode("latin-1"))]


def _delta(delta: Json, finish_reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "mock-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]}


def _word_event(word: str, chat: bool, finish_reason: Any) -> bytes:
    if word == " word" and not finish_reason:
        return PLAIN[chat]
    if chat:
        return _event(_delta({"content": word} if word else {}, finish_reason or None))
    choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": finish_reason or None}
    return _event({"id": "mock-1", "object": "text_completion", "choices": [choice]})


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


# Not made anew for each token, so that one core is enough for a thousand streams a second.
PLAIN = {
    True: _event(_delta({"content": " word"})),
    False: _event(
        {
            "id": "mock-1",
            "object": "text_completion",
            "choices": [{"index": 0, "text": " word", "logprobs": None, "finish_reason": None}],
        }
    ),
}


def _metrics(requests: int) -> str:
    return (
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0"} 1\n'
        'vllm:num_requests_running{engine="1"} 2\n'
        "# TYPE vllm:request_success counter\n"
        f'vllm:request_success_total{{engine="0"}} {requests}\n'
    )


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _part(send: Any, content: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def _json(
    send: Any, content: object, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    await _answer(send, json.dumps(content).encode(), b"application/json", status, headers or [])


async def _answer(
    send: Any,
    content: bytes,
    kind: bytes,
    status: int = 200,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    length = str(len(content)).encode()
    common = [(b"content-type", kind), (b"content-length", length)]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*common, *(headers or [])],
        }
    )
    await _part(send, content, more=False)


def _connection(send: Any) -> Any:
    # ASGI has no word for hanging up; uvicorn's `send` is a method of what holds the transport.
    return send.__self__.transport


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--max-model-len", type=int, default=2_200_000)
    parser.add_argument("--key")
    parser.add_argument("--resets", type=int)
    parser.add_argument("--metrics-take", type=float, default=0)
    arguments = parser.parse_args()
    listening = socket.create_server(("127.0.0.1", arguments.port), backlog=4096)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        Mock(arguments.max_model_len, arguments.key, arguments.resets, arguments.metrics_take),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="critical",
        backlog=4096,
        timeout_graceful_shutdown=1,
    )
    gc.freeze()
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
