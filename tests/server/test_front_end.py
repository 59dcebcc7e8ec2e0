"""The pieces together, in their order, around a small application."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from longrope_server.front_end import authentication, metrics
from longrope_server.front_end.accounting import request_log
from longrope_server.front_end.pieces import FrontEnd
from longrope_server.front_end.settings import Settings
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key, Quota
from longrope_server.keys.usage_ledger import Amounts
from starlette.types import Message, Receive, Scope, Send

from tests.server.asgi import Connection, answers, body_in, http_scope, say
from tests.server.test_endable import EVENTS


def front_end(tmp_path: Path, quota: Quota = Quota(), **settings: Any) -> FrontEnd:  # noqa: B008
    keys = tmp_path / "keys"
    keys.write_text(key_file.line_of(Key("alice", key_file.digest_of("good"), quota)))
    given = Settings.model_validate({"key_file": str(keys), "body_bytes": 1000, **settings})
    return FrontEnd(given, [100, 200], 1000, max_num_seqs=4, kv_tokens=None, engine=None, ask=None)


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


async def test_deleting_the_only_key_revokes_it(tmp_path: Path) -> None:
    front = front_end(tmp_path)
    connection = Connection()
    asking = asyncio.create_task(
        front.around(answers)(
            http_scope(authorization="Bearer good"), connection.receive, connection.send
        )
    )
    await asyncio.sleep(0.01)
    (tmp_path / "keys").write_text("# nobody\n")
    front.reload_keys()
    await asking
    assert connection.status == 401
    assert (await asked(front, b"{}")).status == 401


async def test_a_key_file_that_is_gone_leaves_the_keys_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("vllm.longrope").propagate = logging.getLogger("vllm").propagate = True
    front = front_end(tmp_path)
    (tmp_path / "keys").unlink()
    front.reload_keys()
    assert "The keys stay as they were: The key file" in caplog.text
    assert (await asked(front, b"{}")).status == 200


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


async def test_a_request_is_on_record_before_its_answer_ends(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    front = front_end(tmp_path, accounting=str(accounts))
    ended: list[str] = []

    class Client(Connection):
        async def send(self, message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.append((accounts / request_log.FILE).read_text())
            await super().send(message)

    for key in ("good", "bad"):
        client = Client(*body_in([b"{}"]))
        scope = http_scope(authorization=f"Bearer {key}", x_request_id="mine")
        await front.around(answers)(scope, client.receive, client.send)
    served, refused = (json.loads(line) for line in ended[-1].splitlines())
    assert ended[0].count("\n") == 1
    assert (served["key"], served["status"], served["complete"]) == ("alice", 200, True)
    assert (refused["key"], refused["status"]) == (None, 401)
    assert refused["refused"] == "invalid_api_key"
    assert refused["request_id"] == "mine"


async def test_a_stream_that_was_ended_is_not_complete_on_record(tmp_path: Path) -> None:
    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        for _ in range(10):  # the first are held until an engine is asked, or will not be
            part = {"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True}
            await send(part)
        await asyncio.Event().wait()

    accounts = tmp_path / "accounts"
    front = front_end(tmp_path, accounting=str(accounts))
    client = Connection(*body_in([b"{}"]))
    scope = http_scope(authorization="Bearer good")
    asking = asyncio.create_task(front.around(streams)(scope, client.receive, client.send))
    while not client.sent:
        await asyncio.sleep(0.01)
    front.running.end_all(authentication.revoked())
    await asking
    assert client.is_complete  # to the client, which reads the error
    [line] = map(json.loads, (accounts / request_log.FILE).read_text().splitlines())
    assert (line["status"], line["complete"]) == (200, False)
    assert line["refused"] == "key_revoked"


async def test_probes_are_not_on_record(tmp_path: Path) -> None:
    front = front_end(tmp_path, accounting=str(tmp_path / "accounts"))
    connection = Connection(*body_in([]))
    await front.around(answers)(http_scope("GET", "/health"), connection.receive, connection.send)
    assert not (tmp_path / "accounts" / request_log.FILE).exists()


async def test_the_keys_of_the_metrics_are_bounded() -> None:
    keys = metrics.KeyMetrics()
    keys.know(f"key {number}" for number in range(3 * metrics.MOST_KEYS))
    one = Amounts(requests=1, prompt_tokens=2, generated_tokens=3)
    for number in range(3 * metrics.MOST_KEYS):
        keys.ended(f"key {number}", one)
    values = {
        sample.labels["key"]: sample.value
        for family in metrics.KEY_PROMPT_TOKENS.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["key"].startswith(("key ", "other"))
    }
    assert len(values) == metrics.MOST_KEYS + 1
    assert values["key 0"] == 2
    assert values[metrics.OTHER_KEYS] == 2 * 2 * metrics.MOST_KEYS
