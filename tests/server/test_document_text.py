"""The piece that turns a document into text, around a small application."""

import asyncio
import json

from longrope_server.front_end.bodies.body_limit import BodyLimit, Memory
from longrope_server.front_end.document_text import PATH, DocumentText

from tests.server.asgi import Connection, answers, body_in, http_scope
from tests.server.documents.pdfs import endless, pdf
from tests.server.documents.readers import readers


class Pieces:
    """The piece behind a BodyLimit."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.memory = Memory(1 << 20)
        text = DocumentText(answers, 1000, self.refused.append)
        self.app = BodyLimit(text, 200_000, 60, self.memory, self.refused.append)

    async def asked(self, content: bytes, content_type: str = "", path: str = PATH) -> Connection:
        connection = Connection(*body_in([content[:40], content[40:]]))
        scope = http_scope(path=path, content_type=content_type)
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
