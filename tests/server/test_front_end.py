"""The pieces together, in their order, around a small application."""

import json
from pathlib import Path
from typing import Any

from longrope_server.front_end.pieces import FrontEnd
from longrope_server.front_end.settings import Settings
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key, Quota
from starlette.types import Receive, Scope, Send

from tests.server.asgi import Connection, answers, body_in, http_scope, say


def front_end(tmp_path: Path, quota: Quota = Quota(), **settings: Any) -> FrontEnd:  # noqa: B008
    keys = tmp_path / "keys"
    keys.write_text(key_file.line_of(Key("alice", key_file.digest_of("good"), quota)))
    given = Settings.model_validate({"key_file": str(keys), "body_bytes": 1000, **settings})
    return FrontEnd(given, [100, 200], max_num_seqs=4, kv_tokens=None, engine=None, ask=None)


async def says(scope: Scope, receive: Receive, send: Send) -> None:
    await say(send)


async def asked(front: FrontEnd, *chunks: bytes, key: str = "good", **headers: str) -> Connection:
    connection = Connection(*body_in(chunks))
    scope = http_scope(authorization=f"Bearer {key}", **headers)
    await front.around(answers)(scope, connection.receive, connection.send)
    return connection


def code(connection: Connection) -> str:
    return str(json.loads(connection.body)["error"]["code"])


async def test_a_request_with_a_key_and_a_place_is_answered(tmp_path: Path) -> None:
    front = front_end(tmp_path)
    assert (await asked(front, b"{}")).status == 200
    assert len(front.running) == 0
    assert front.memory.held == 0
    assert front.gate.ledger.under_way("alice") == 0


async def test_who_has_no_key_has_no_byte_read(tmp_path: Path) -> None:
    connection = Connection(*body_in([b"x" * 10]))
    before = list(connection.messages)
    scope = http_scope(authorization="Bearer bad")
    await front_end(tmp_path).around(answers)(scope, connection.receive, connection.send)
    assert connection.status == 401
    assert connection.messages == before


async def test_a_body_too_large_takes_no_place_and_no_quota(tmp_path: Path) -> None:
    front = front_end(tmp_path, Quota(requests_per_minute=1))
    refused = await asked(front, b"x" * 1001)
    assert (refused.status, code(refused)) == (413, "body_too_large")
    assert (await asked(front, b"x")).status == 200
    refused = await asked(front, b"x")
    assert (refused.status, code(refused)) == (429, "rate_limit_exceeded")


async def test_a_draining_server_asks_for_no_key(tmp_path: Path) -> None:
    front = front_end(tmp_path)
    front.life.draining = True
    assert code(await asked(front, key="bad")) == "draining"


async def test_a_broken_key_file_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    front = front_end(tmp_path)
    (tmp_path / "keys").write_text("alice secret")
    front.reload_keys()
    assert (await asked(front, b"{}")).status == 200
    (tmp_path / "keys").write_text(key_file.line_of(Key("bob", key_file.digest_of("other"))))
    front.reload_keys()
    assert (await asked(front, b"{}")).status == 401
    assert (await asked(front, b"{}", key="other")).status == 200


async def test_a_get_needs_a_key_but_no_place(tmp_path: Path) -> None:
    async def lists(scope: Scope, receive: Receive, send: Send) -> None:
        assert front.gate.ledger.under_way("alice") == 0
        await answers(scope, Connection(*body_in([])).receive, send)

    front = front_end(tmp_path)
    connection = Connection()
    scope = http_scope("GET", "/v1/models", authorization="Bearer good")
    await front.around(lists)(scope, connection.receive, connection.send)
    assert connection.status == 200


async def test_the_page_needs_no_key_and_can_be_shut_off(tmp_path: Path) -> None:
    for served, statuses in ((True, [200, 200, 401]), (False, [401, 401, 401])):
        front = front_end(tmp_path, page=served)
        for path, status in zip(("/", "/page/page.js", "/page/none.js"), statuses, strict=True):
            connection = Connection()
            await front.around(says)(http_scope("GET", path), connection.receive, connection.send)
            assert connection.status == status
