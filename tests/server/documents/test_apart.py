"""A PDF that is read in a process of its own."""

import asyncio
import contextlib

import pytest
from longrope_server.documents import apart
from longrope_server.documents.apart import text_of_pdf_apart
from longrope_server.errors import UsageError

from tests.server.documents.pdfs import encrypted, endless, pdf
from tests.server.documents.readers import readers


async def read(content: bytes, largest: int = 1000) -> str:
    return await text_of_pdf_apart(content, "The file", largest)


async def test_the_text_is_that_of_a_pdf_read_here() -> None:
    assert await read(pdf("The first page.", "", "The third.")) == "The first page.\n\nThe third."


async def test_a_refusal_is_the_same_sentence() -> None:
    with pytest.raises(UsageError, match=r"^The file is encrypted: give a copy without a password"):
        await read(encrypted(pdf("Secret."), "password", "AES-256"))
    with pytest.raises(UsageError, match=r"^The file has no text in its 2 pages: .*\.$"):
        await read(pdf("", ""))


async def test_more_text_than_a_prompt_can_take_is_refused() -> None:
    assert len(await read(pdf("x" * 1000))) == 1000
    with pytest.raises(UsageError, match="more than 1,000 bytes of text"):
        await read(pdf("x" * 1001))


async def test_a_pdf_that_takes_too_long_is_refused_and_its_process_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apart, "SECONDS", 1)
    with pytest.raises(UsageError, match="The file takes more than 1 seconds"):
        await read(endless())
    assert not readers()


async def test_a_reader_that_is_no_longer_wanted_is_ended() -> None:
    reading = asyncio.create_task(read(endless()))
    while not readers():
        await asyncio.sleep(0.05)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    assert not readers()
