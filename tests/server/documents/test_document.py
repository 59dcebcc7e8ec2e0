"""What `longrope ask` reads, and what it refuses to read, in one sentence."""

import io
import sys
from pathlib import Path

import pytest
from longrope_server.documents.document import read
from longrope_server.errors import UsageError

from tests.server.documents.pdfs import encrypted, pdf, unpacking_to


def refusal(path: Path | str) -> str:
    with pytest.raises(UsageError) as refused:
        read(str(path))
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def written(directory: Path, content: bytes, name: str = "file") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("text", ["plain", "# Überschrift\r\n\r\n日本語 🗼\n", " spaces kept \n"])
def test_text_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    assert read(str(written(tmp_path, text.encode()))) == text


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read(str(written(tmp_path, b"\xef\xbb\xbfhello"))) == "hello"


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.txt"])
def test_a_pdf_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, pdf("The first page.", "", "The third page."), name)
    assert read(str(path)) == "The first page.\n\nThe third page."


def test_a_pdf_may_begin_with_junk_if_its_name_says_that_it_is_one(tmp_path: Path) -> None:
    content = b"Content-Type: application/pdf\r\n\r\n" + pdf("A page.")
    assert read(str(written(tmp_path, content, "mail.PDF"))) == "A page."


def test_text_that_speaks_of_pdf_is_text(tmp_path: Path) -> None:
    text = "A PDF begins with %PDF- and a version."
    assert read(str(written(tmp_path, text.encode()))) == text
    assert read(str(written(tmp_path, b"no header", "named.pdf"))) == "no header"


@pytest.mark.parametrize("content", [b"from a pipe", pdf("from a pipe")])
def test_a_dash_is_standard_input(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read("-") == "from a pipe"


def test_nothing_on_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert refusal("-").startswith("Standard input is empty")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.txt'} does not exist" in refusal(tmp_path / "none.txt")


def test_a_directory_is_refused_by_name(tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory" in refusal(tmp_path)


def test_a_name_that_cannot_be_opened_is_refused() -> None:
    assert "cannot be read" in refusal("no\0such")
    assert "File name too long" in refusal("x" * 5000)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"caf\xe9 au lait", "(byte 0xe9 at offset 3)"),
        (b"\xff\xd8", "(byte 0xff at offset 0)"),
        ("plain".encode("utf-16-le"), "(byte 0x00 at offset 1)"),
        (b"\x7fELF\x02\x01\x01\x00", "(byte 0x00 at offset 7)"),
        (b"PK\x03\x04\x14\x00", "(byte 0x00 at offset 5)"),
    ],
)
def test_what_is_not_utf8_text_is_refused(tmp_path: Path, content: bytes, part: str) -> None:
    sentence = refusal(written(tmp_path, content))
    assert f"{tmp_path / 'file'} is not UTF-8 text {part}" in sentence


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named_by_its_mark(tmp_path: Path, encoding: str) -> None:
    sentence = refusal(written(tmp_path, "\ufeffGrüße".encode(encoding)))
    assert f"{tmp_path / 'file'} is UTF-16 by its byte order mark (BOM)" in sentence


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf"])
def test_an_empty_document_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is empty" in refusal(written(tmp_path, content))


def test_a_pdf_that_unpacks_to_too_much_is_not_called_damaged(tmp_path: Path) -> None:
    path = written(tmp_path, unpacking_to(100_000_000))
    assert "unpacks to more than there is room for" in refusal(path)


def test_a_pdf_of_pictures_is_refused(tmp_path: Path) -> None:
    assert "has no text in its 2 pages" in refusal(written(tmp_path, pdf("", "")))


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_pdf_with_a_password_is_refused(tmp_path: Path, algorithm: str) -> None:
    path = written(tmp_path, encrypted(pdf("Secret."), "password", algorithm))
    assert "is encrypted" in refusal(path)


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_an_encrypted_pdf_that_opens_without_a_password_is_read(
    tmp_path: Path, algorithm: str
) -> None:
    assert read(str(written(tmp_path, encrypted(pdf("Open."), "", algorithm)))) == "Open."


@pytest.mark.parametrize("kept", [9, 60, 200, 400])
def test_a_pdf_that_was_cut_is_read_or_refused(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path, pdf("The only page.")[:kept])
    try:
        assert "only" in read(str(path))
    except UsageError as refused:
        assert str(path) in str(refused)  # noqa: PT017
