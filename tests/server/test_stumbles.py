"""What an application raises, before and after an engine has the request, in a stream and not."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from longrope_server.front_end.bodies.body_limit import BODY
from longrope_server.front_end.stumbles import Stumbles, engine_has_it
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from vllm.exceptions import VLLMValidationError

from tests.server.asgi import Connection, http_scope, say

SECRET = "what the prompt says"
STUMBLES = [
    AttributeError(SECRET),
    KeyError(SECRET),
    IndexError(SECRET),
    AssertionError(SECRET),
    TypeError(SECRET),
    RecursionError(SECRET),
    OverflowError(SECRET),
    "\ud800",
]
SERVERS = [OSError("disk"), RuntimeError("broken"), MemoryError(), TimeoutError()]
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


def error_of(given: Exception | str) -> Exception:
    if isinstance(given, Exception):
        return given
    try:
        given.encode()
    except UnicodeEncodeError as error:
        return error
    raise AssertionError


async def answered(app: Callable[[Send], Awaitable[None]], body: bool = True) -> Connection:
    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        # As vLLM's handlers do: in a task of its own.
        await asyncio.create_task(app(send))  # type: ignore[arg-type]

    connection = Connection()
    scope = http_scope()
    if body:
        scope[BODY] = object()
    await Stumbles(called)(scope, connection.receive, connection.send)
    return connection


def raising(error: Exception, *, begun: str = "", engine: bool = False) -> Any:
    async def app(send: Send) -> None:
        if engine:
            engine_has_it()
        if begun:
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": STREAM if begun == "stream" else []})
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        raise error

    return app


def last_error(connection: Connection) -> dict[str, Any]:
    assert connection.is_complete
    events = connection.body.decode().split("\n\n")
    assert events[0] == "data: {}"
    assert events[2:] == ["data: [DONE]", ""]
    error: dict[str, Any] = json.loads(events[1].removeprefix("data: "))["error"]
    return error


@pytest.mark.parametrize("given", STUMBLES, ids=lambda given: type(given).__name__)
async def test_before_an_engine_has_it_the_request_is_at_fault(given: Exception | str) -> None:
    connection = await answered(raising(error_of(given)))
    assert connection.status == 400
    error = json.loads(connection.body)["error"]
    assert error["code"] == "unreadable_request"
    assert error["message"].endswith("a value that this API does not take.")
    assert SECRET not in connection.body.decode()


@pytest.mark.parametrize("given", SERVERS, ids=lambda given: type(given).__name__)
async def test_what_no_request_can_cause_stays_the_servers(given: Exception) -> None:
    with pytest.raises(type(given)):
        await answered(raising(given))


@pytest.mark.parametrize("given", STUMBLES[:4], ids=lambda given: type(given).__name__)
async def test_once_an_engine_has_it_the_server_is_at_fault(given: Exception) -> None:
    with pytest.raises(type(given)):
        await answered(raising(given, engine=True))


@pytest.mark.parametrize("given", [ZeroDivisionError(), OverflowError(), FloatingPointError()])
async def test_arithmetic_on_a_requests_numbers_is_its_own_fault(given: Exception) -> None:
    """As of a `length_penalty` with which beams are compared after the engine has answered."""
    assert (await answered(raising(given, engine=True))).status == 400


async def test_a_request_without_a_body_is_not_at_fault() -> None:
    with pytest.raises(KeyError):
        await answered(raising(KeyError("metric")), body=False)


@pytest.mark.parametrize("given", STUMBLES, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("engine", [False, True])
async def test_a_stream_that_has_begun_ends_with_an_error(
    given: Exception | str, engine: bool
) -> None:
    error = last_error(await answered(raising(error_of(given), begun="stream", engine=engine)))
    is_servers = engine and not isinstance(given, ArithmeticError)
    assert error["code"] == ("answer_failed" if is_servers else "unreadable_request")
    assert error["type"] == ("server_error" if is_servers else "invalid_request_error")
    assert SECRET not in error["message"]


@pytest.mark.parametrize("given", SERVERS, ids=lambda given: type(given).__name__)
async def test_so_it_does_where_the_server_is_at_fault(given: Exception) -> None:
    error = last_error(await answered(raising(given, begun="stream")))
    assert error["code"] == "answer_failed"


async def test_starlettes_late_handler_is_looked_behind() -> None:
    """An exception with a handler of its own comes as a RuntimeError once an answer has begun."""

    async def app(send: Send) -> None:
        try:
            await raising(VLLMValidationError("top_k is 1.5 here."), begun="stream")(send)
        except VLLMValidationError as error:
            raise RuntimeError("Caught handled exception, but response already started.") from error

    error = last_error(await answered(app))
    assert error["code"] == "unreadable_request"
    assert error["message"] == "top_k is 1.5 here."


async def test_an_answer_that_is_no_stream_breaks_off() -> None:
    with pytest.raises(KeyError):
        await answered(raising(KeyError("a"), begun="text"))


async def test_a_client_that_left_is_told_nothing() -> None:
    with pytest.raises(ClientDisconnect):
        await answered(raising(ClientDisconnect(), begun="stream"))


async def test_a_whole_answer_stays_as_it_is() -> None:
    sent: list[bytes] = []

    async def app(send: Send) -> None:
        await say(send, b"whole", headers=STREAM)
        sent.append(b"whole")
        raise KeyError("in a background task")

    with pytest.raises(KeyError):
        await answered(app)
    assert sent == [b"whole"]
