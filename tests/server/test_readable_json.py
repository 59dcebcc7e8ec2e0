"""The piece that refuses unreadable bodies, behind the one that reads them."""

import json

import pytest
from longrope_server.front_end.bodies.body_limit import BodyLimit, Memory
from longrope_server.front_end.bodies.readable_json import ReadableJSON
from starlette.types import Receive, Scope, Send

from tests.server.asgi import Connection, body_in, http_scope, read_body, say


async def posted(body: bytes, content_type: str, size: int = 3) -> tuple[Connection, list[str]]:
    """A body in chunks of `size` to a piece in front of an application that says it back."""
    refusals: list[str] = []

    async def says_back(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, await read_body(receive))

    app = BodyLimit(ReadableJSON(says_back, refusals.append), 10_000, 5.0, Memory(100_000))
    chunks = [body[place : place + size] for place in range(0, len(body), size)]
    connection = Connection(*body_in(chunks))
    scope = http_scope(content_type=content_type)
    await app(scope, connection.receive, connection.send)
    return connection, refusals


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize("body", [b'"\\ud800"', b"[" * 2000, b"9" * 400, b'"\xff"'])
async def test_an_unreadable_body_gets_400_and_a_sentence(body: bytes, content_type: str) -> None:
    connection, refusals = await posted(body, content_type)
    assert connection.status == 400
    error = json.loads(connection.body)["error"]
    assert error["code"] == "unreadable_body"
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("The body ")
    assert error["message"].endswith(".")
    assert refusals == ["unreadable_body"]


@pytest.mark.parametrize("body", [b'{"a": "\\ud83d\\ude00"}', b"{", b"", b"\x00"])
async def test_other_bodies_are_handed_on_as_they_came(body: bytes) -> None:
    connection, refusals = await posted(body, "application/json")
    assert (connection.status, connection.body, refusals) == (200, body, [])


async def test_what_is_no_json_is_not_looked_at() -> None:
    connection, _ = await posted(b"\xff\xd8" * 10, "multipart/form-data; boundary=x")
    assert connection.status == 200
