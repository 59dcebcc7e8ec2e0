import json

import pytest
from longrope_server.front_end.authentication import Authentication, key_of
from longrope_server.front_end.takes_requests import LIVENESS
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key, Keys
from starlette.types import Receive, Scope, Send

from tests.server.asgi import Connection, http_scope, say

KEYS = Keys([Key("alice", key_file.digest_of("good"))])


async def says_who(scope: Scope, receive: Receive, send: Send) -> None:
    key = key_of(scope)
    await say(send, (key.name if key else "nobody").encode())


async def asked(scope: Scope, reasons: list[str] | None = None) -> Connection:
    connection = Connection()
    count = [].append if reasons is None else reasons.append
    piece = Authentication(says_who, KEYS, {*LIVENESS, "/metrics"}, count)
    await piece(scope, connection.receive, connection.send)
    return connection


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer good"},
        {"authorization": "bearer  good "},
        {"x_api_key": "good"},
        {"authorization": "Basic abc", "x_api_key": "good"},
    ],
)
async def test_a_good_key_lets_through_however_it_is_sent(headers: dict[str, str]) -> None:
    assert (await asked(http_scope(**headers))).body == b"alice"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "good"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer bad"},
        {"authorization": "Bearer bad", "x_api_key": "good"},
        {"x_api_key": ""},
    ],
)
async def test_without_one_there_is_a_401_of_openais_shape(headers: dict[str, str]) -> None:
    reasons: list[str] = []
    refused = await asked(http_scope(**headers), reasons)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    error = json.loads(refused.body)["error"]
    assert error["code"] == "invalid_api_key"
    assert error["type"] == "invalid_request_error"
    assert "bad" not in error["message"]
    assert reasons == ["invalid_api_key"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_open_paths_need_no_key(path: str) -> None:
    assert (await asked(http_scope("GET", path))).body == b"nobody"


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_without_a_key_nothing_is_sent_to_an_open_path(path: str) -> None:
    """A body would be held in memory, and wait in the queue."""
    for method in ("POST", "PUT", "PATCH"):
        assert (await asked(http_scope(method, path))).status == 401
    assert (await asked(http_scope("POST", path, authorization="Bearer good"))).body == b"alice"


@pytest.mark.parametrize("path", ["//health", "/health/", "/health/x", "/HEALTH", "/metrics/", "/"])
async def test_nothing_near_an_open_path_is_open(path: str) -> None:
    assert (await asked(http_scope("GET", path))).status == 401


async def test_open_paths_are_below_the_root_path() -> None:
    scope = {**http_scope("GET", "/api/health"), "root_path": "/api"}
    assert (await asked(scope)).status == 200


async def test_a_websocket_without_a_key_is_closed_before_it_opens() -> None:
    refused = await asked({**http_scope(), "type": "websocket"})
    assert [message["type"] for message in refused.sent] == ["websocket.close"]
