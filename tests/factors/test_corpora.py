"""Texts out of Debian packages: R's serialised vectors, unwrapping, the manifest."""

import gzip
import hashlib
import json
import re
import resource
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from longrope_factors.cli import app
from longrope_factors.corpora import debian
from longrope_factors.corpora.rdata import unserialize
from longrope_factors.models import texts
from typer.testing import CliRunner

HEADER = b"X\n" + struct.pack(">3i", 3, 0x40201, 0x30500) + struct.pack(">i", 5) + b"UTF-8"
NIL = struct.pack(">i", 254)


def characters(text: str) -> bytes:
    content = text.encode()
    return struct.pack(">2i", 0x40009, len(content)) + content


def strings(texts: list[str]) -> bytes:
    return struct.pack(">2i", 16, len(texts)) + b"".join(map(characters, texts))


def integers(*values: int) -> bytes:
    return struct.pack(f">{2 + len(values)}i", 13, len(values), *values)


def named_list(members: dict[str, bytes], symbol: bytes) -> bytes:
    names = struct.pack(">i", 0x402) + symbol + strings(list(members)) + NIL
    return struct.pack(">2i", 0x213, len(members)) + b"".join(members.values()) + names


NEW_SYMBOL = struct.pack(">i", 1) + characters("names")
FIRST_SYMBOL = struct.pack(">i", 0x1FF)


def package(root: Path, novels: dict[str, list[str]]) -> None:
    """A janeaustenr and an Opticks as the two packages hold them."""
    database = root / debian._AUSTEN
    database.parent.mkdir(parents=True)
    places, blocks = {}, b""
    for name, lines in novels.items():
        content = HEADER + strings(lines)
        block = struct.pack(">i", len(content)) + zlib.compress(content)
        places[name] = integers(len(blocks), len(block))
        blocks += block
    index = named_list(
        {
            "variables": named_list(places, NEW_SYMBOL),
            "compressed": struct.pack(">3i", 10, 1, 1),
        },
        FIRST_SYMBOL,
    )
    database.with_suffix(".rdb").write_bytes(blocks)
    database.with_suffix(".rdx").write_bytes(gzip.compress(HEADER + index))
    opticks = root / debian._OPTICKS
    opticks.parent.mkdir(parents=True)
    opticks.write_text("OPTICKS:\n\n\nLight is\nrefracted.\n")
    for manual in debian.MANUALS:
        path = root / manual.file
        path.parent.mkdir(parents=True)
        contents = f"Contents\n\n{manual.start}\n\nPreface\n"
        path.write_bytes(gzip.compress(f"{contents}\n{manual.start}\n\nHackers\n".encode()))


NOVELS = {"emma": ["EMMA", "", "Emma Woodhouse,", "handsome", "", ""], "persuasion": ["Sir", "W."]}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_text_is_read_without_its_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(mark + "é\r\n\ufeff".encode())
    text, sha256 = texts.content(path)
    assert text == "é\r\n\ufeff"
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "a text".encode("utf-16"),
            "is UTF-16 text by its byte order mark (BOM); save it as UTF-8",
        ),
        (b"\xfe\xff" + "a text".encode("utf-16-be"), "is UTF-16 text by its byte order mark"),
        ("a text".encode("utf-32"), "is UTF-32 text by its byte order mark"),
        ("a text".encode("utf-16-le"), "byte 1 is 0, as in UTF-16 without a byte order mark"),
        (b"a \xe9", "is not UTF-8 text (byte 2)"),
    ],
)
def test_what_is_no_utf_8_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{re.escape(words)}"):
        texts.content(path)


def test_fetch_writes_texts_and_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "root", NOVELS)
    monkeypatch.setattr(
        debian, "_unpacked", lambda name, scratch: (tmp_path / "root", f"{name} 1.0")
    )
    result = CliRunner().invoke(app, ["corpus", "fetch", str(tmp_path / "texts")])
    assert result.exit_code == 0
    texts = {path.stem: path.read_text() for path in (tmp_path / "texts").glob("*.txt")}
    assert texts == {
        "emma": "EMMA\n\nEmma Woodhouse, handsome\n",
        "persuasion": "Sir W.\n",
        "opticks": "OPTICKS:\n\nLight is refracted.\n",
        **{manual.name: f"{manual.start}\n\nHackers\n" for manual in debian.MANUALS},
    }
    manifest = json.loads((tmp_path / "texts" / debian.MANIFEST).read_text())
    assert manifest["texts"][0] == {
        "file": "emma.txt",
        "package": "r-cran-janeaustenr 1.0",
        "sha256": hashlib.sha256(texts["emma"].encode()).hexdigest(),
    }


def test_a_manual_with_another_heading_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "root", NOVELS)
    manual = debian.MANUALS[1]
    (tmp_path / "root" / manual.file).write_bytes(gzip.compress(b"\nChapter One: Overview\n"))
    monkeypatch.setattr(
        debian, "_unpacked", lambda name, scratch: (tmp_path / "root", f"{name} 2.0")
    )
    result = CliRunner().invoke(app, ["corpus", "fetch", str(tmp_path / "texts")])
    assert result.exit_code == 2
    assert result.stderr == (
        f"longrope: c++-annotations-txt 2.0: no line of {manual.file} begins with "
        "'Chapter 1: Overview Of The Chapters', where the text should start; the package of "
        "Debian 12 has one.\n"
    )
    assert not (tmp_path / "texts").exists()


def test_a_text_that_is_not_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "root", NOVELS)
    monkeypatch.setattr(
        debian, "_unpacked", lambda name, scratch: (tmp_path / "root", f"{name} 1.0")
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # in place of a kill or a full disk
    try:
        result = CliRunner().invoke(app, ["corpus", "fetch", str(tmp_path / "texts")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 2
    assert "emma.txt: cannot be written: File too large." in result.stderr
    assert list((tmp_path / "texts").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "apt-get"), "apt-get is not installed"),
        (
            subprocess.CalledProcessError(100, "apt-get", stderr="W: slow\nE: No such package\n"),
            "E: No such package",
        ),
    ],
)
def test_a_package_that_does_not_come(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fails)
    result = CliRunner().invoke(app, ["corpus", "fetch", str(tmp_path / "texts")])
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "texts").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"A\n", "XDR"),
        (HEADER + struct.pack(">i", 6) + bytes(8), "type 6"),
        (HEADER + struct.pack(">2i", 16, 1), "middle"),
    ],
)
def test_other_r_data_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unserialize(content)


def test_missing_strings_and_reals() -> None:
    absent = HEADER + struct.pack(">4i", 16, 1, 9, -1)
    assert unserialize(absent) == [None]
    assert unserialize(HEADER + struct.pack(">2id", 14, 1, 0.5)) == [0.5]
