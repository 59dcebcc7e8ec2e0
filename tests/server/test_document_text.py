"""The piece that turns a document into text, around a small application."""

import asyncio
import json
from typing import Any

from longrope_server.front_end.admission.gate import Gate
from longrope_server.front_end.admission.ledger import Ledger, Sum
from longrope_server.front_end.admission.limits import Limits
from longrope_server.front_end.authentication import KEY
from longrope_server.front_end.bodies.body_limit import BodyLimit, Memory
from longrope_server.front_end.document_text import PATH, DocumentText
from longrope_server.keys.key_file import Key, Quota

from tests.server.asgi import Connection, answers, body_in, http_scope
from tests.server.documents.pdfs import endless, pdf
from tests.server.documents.readers import readers


class Pieces:
    """The piece behind a BodyLimit."""

    def __init__(self, key: Key | None = None, **limits: Any) -> None:
        self.refused: list[str] = []
        self.memory = Memory(1 << 20)
        self.key = key
        self.gate = Gate(Limits.model_validate(limits).completed([100], 8, None), Ledger())
        text = DocumentText(answers, self.gate, 1000, self.refused.append)
        self.app = BodyLimit(text, 200_000, 60, self.memory, self.refused.append)

    async def asked(self, content: bytes, content_type: str = "", path: str = PATH) -> Connection:
        connection = Connection(*body_in([content[:40], content[40:]]))
        scope = http_scope(path=path, content_type=content_type)
        if self.key is not None:
            scope[KEY] = self.key
        await self.app(scope, connection.receive, connection.send)
        return connection


async def test_a_text_and_a_pdf_come_back_as_text() -> None:
    pieces = Pieces()
    for content, text in (("Grüße\r\n".encode(), "Grüße\r\n"), (pdf("A page."), "A page.")):
        answer = await pieces.asked(content)
        assert (answer.status, answer.body.decode()) == (200, text)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert pieces.memory.held == 0


async def test_a_pdf_may_begin_with_junk_if_its_type_says_that_it_is_one() -> None:
    answer = await Pieces().asked(b"junk\r\n" + pdf("A page."), "application/pdf")
    assert answer.body == b"A page."


async def test_what_cannot_be_read_is_refused_in_a_sentence() -> None:
    pieces = Pieces()
    for content, part in ((b"\xff", "The file is not UTF-8 text"), (b" ", "The file is empty")):
        answer = await pieces.asked(content)
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["code"]) == (400, "unreadable_document")
        assert error["message"].startswith(part)
    assert pieces.refused == ["unreadable_document"] * 2


async def test_every_other_request_passes() -> None:
    assert (await Pieces().asked(b"{}", path="/v1/completions")).body == b"ok"


async def test_a_reader_whose_client_has_left_is_ended() -> None:
    pieces = Pieces()
    connection = Connection(*body_in([endless()]))
    asking = asyncio.create_task(
        pieces.app(http_scope(path=PATH), connection.receive, connection.send)
    )
    while not readers():
        await asyncio.sleep(0.05)
    connection.gone.set()
    await asking
    assert connection.sent == []
    while readers():
        await asyncio.sleep(0.05)
    assert (await pieces.asked(pdf("Next."))).body == b"Next."


async def test_a_text_is_read_while_a_pdf_is() -> None:
    pieces = Pieces()
    connection = Connection(*body_in([endless()]))
    asking = asyncio.create_task(
        pieces.app(http_scope(path=PATH), connection.receive, connection.send)
    )
    while not readers():
        await asyncio.sleep(0.05)
    assert (await pieces.asked(b"text")).body == b"text"
    connection.gone.set()
    await asking


async def test_a_document_counts_as_a_request_of_its_key() -> None:
    pieces = Pieces(Key("alice", b"", Quota(requests_per_minute=2, tokens_per_minute=10)))
    answers = [await pieces.asked(b"text " * 100) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 1
    assert json.loads(answers[2].body)["error"]["code"] == "rate_limit_exceeded"
    assert pieces.refused == ["key_quota"]
    assert pieces.gate.ledger.under_way("alice") == 0


async def test_a_document_that_is_read_is_under_way_without_a_place() -> None:
    pieces = Pieces(Key("alice", b"", Quota(in_flight=1)))
    connection = Connection(*body_in([endless()]))
    scope = {**http_scope(path=PATH), KEY: pieces.key}
    asking = asyncio.create_task(pieces.app(scope, connection.receive, connection.send))
    while not readers():
        await asyncio.sleep(0.05)
    usage = pieces.gate.ledger.usage()
    assert (usage["in_flight"], usage["aside"]) == ({}, {100: Sum(1, 0)})
    assert (await pieces.asked(b"text")).status == 429
    connection.gone.set()
    await asking
    assert (await pieces.asked(b"text")).status == 200


async def test_no_more_pdfs_wait_and_no_longer_than_requests_do() -> None:
    pieces = Pieces(queued=2, queue_seconds=0.5)
    connection = Connection(*body_in([endless()]))
    asking = asyncio.create_task(
        pieces.app(http_scope(path=PATH), connection.receive, connection.send)
    )
    while not readers():
        await asyncio.sleep(0.05)
    waiting = [asyncio.create_task(pieces.asked(pdf("Next."))) for _ in range(2)]
    await asyncio.sleep(0.1)
    refused = await pieces.asked(pdf("One more."))
    assert not any(task.done() for task in waiting)
    for answer in (refused, *await asyncio.gather(*waiting)):
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "server_full"
        assert int(answer.headers["retry-after"]) > 1
    connection.gone.set()
    await asking
    assert (await pieces.asked(pdf("Next."))).body == b"Next."
    assert pieces.refused == ["server_full"] * 3
    assert pieces.memory.held == 0
