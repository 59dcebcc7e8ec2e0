"""Fetch long real texts for search, training and evaluation from Debian packages, and hash them.

The texts are Austen's six novels (r-cran-janeaustenr), Newton's Opticks (golang-1.19-src), the
Jargon File (jargon-text), the C++ Annotations (c++-annotations-txt) and the Debian Reference
(debian-reference-en). They are not part of this repository; the manifest beside them says what was
fetched.
"""

import gzip
import hashlib
import json
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

from longrope_factors.corpora.rdata import unserialize
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.models import texts

AUSTEN_PACKAGE, OPTICKS_PACKAGE = "r-cran-janeaustenr", "golang-1.19-src"
MANIFEST = "manifest.json"
_AUSTEN = "usr/lib/R/site-library/janeaustenr/data/Rdata"
_OPTICKS = "usr/share/go-1.19/src/testdata/Isaac.Newton-Opticks.txt"


class Manual(NamedTuple):
    """A text that a package holds as one gzip file, read from the last line that begins `start`."""

    name: str
    package: str
    file: str
    start: str


# Each starts behind its table of contents.
MANUALS = (
    Manual(
        "jargon",
        "jargon-text",
        "usr/share/doc/jargon-text/jargon.txt.gz",
        "Chapter\N{NO-BREAK SPACE}4.\N{NO-BREAK SPACE}Jargon Construction",
    ),
    Manual(
        "annotations",
        "c++-annotations-txt",
        "usr/share/doc/c++-annotations/cplusplus.txt.gz",
        "Chapter 1: Overview Of The Chapters",
    ),
    Manual(
        "debianreference",
        "debian-reference-en",
        "usr/share/debian-reference/debian-reference.en.txt.gz",
        "Chapter\N{NO-BREAK SPACE}1.\N{NO-BREAK SPACE}GNU/Linux tutorials",
    ),
)


def fetch(folder: Path) -> list[Path]:
    """Write every text to `folder`/NAME.txt, and a manifest of hashes; returns the texts' paths.

    Each file is written completely or not at all. Needs dpkg, and apt-get with a Debian source.
    Raises UsageError if a package cannot be downloaded or unpacked or a manual has another
    beginning, and FactorFileError if a file cannot be written.
    """
    fetched: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        root, version = _unpacked(AUSTEN_PACKAGE, Path(scratch))
        for name, lines in austen(root / _AUSTEN).items():
            fetched.append((name, version, unwrapped(lines)))
        root, version = _unpacked(OPTICKS_PACKAGE, Path(scratch))
        lines = texts.content(root / _OPTICKS)[0].splitlines()
        fetched.append(("opticks", version, unwrapped(lines)))
        for manual in MANUALS:
            root, version = _unpacked(manual.package, Path(scratch))
            path = root / manual.file
            text = text_files.decoded(path, gzip.decompress(path.read_bytes()))
            start = text.rfind(f"\n{manual.start}")
            if start < 0:
                raise UsageError(
                    f"{version}: no line of {manual.file} begins with '{manual.start}', where the "
                    "text should start; the package of Debian 12 has one."
                )
            fetched.append((manual.name, version, unwrapped(text[start:].splitlines())))
    paths, manifest = [], []
    for name, version, text in fetched:
        content = text.encode("utf-8")
        paths.append(folder / f"{name}.txt")
        with replacing(paths[-1]) as whole:
            whole.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        manifest.append({"file": paths[-1].name, "package": version, "sha256": sha256})
    with replacing(folder / MANIFEST) as whole:
        whole.write_text(json.dumps({"texts": manifest}, indent=2) + "\n")
    return paths


def unwrapped(lines: list[str]) -> str:
    """Join the lines of each paragraph into one, with a blank line between paragraphs."""
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            paragraphs[-1].append(line.strip())
        elif paragraphs[-1]:
            paragraphs.append([])
    return "\n\n".join(" ".join(paragraph) for paragraph in paragraphs if paragraph) + "\n"


def austen(database: Path) -> dict[str, list[str]]:
    """The lines of each novel in R's lazy-load database `database`.rdx and `database`.rdb.

    The .rdx has the place of each variable in the .rdb: a big-endian length, then zlib data.
    """
    index = unserialize(gzip.decompress(database.with_suffix(".rdx").read_bytes()))
    blocks = database.with_suffix(".rdb").read_bytes()
    return {
        name: unserialize(zlib.decompress(blocks[start + 4 : start + length]))
        for name, (start, length) in index["variables"].items()
    }


def _unpacked(package: str, scratch: Path) -> tuple[Path, str]:
    folder = scratch / package
    folder.mkdir()
    _run(["apt-get", "download", package], folder)
    archive = next(folder.glob("*.deb"))
    _run(["dpkg", "-x", archive.name, "root"], folder)
    return folder / "root", " ".join(archive.stem.split("_")[:2])


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError(
            f"{command[0]} is not installed: texts come from Debian packages."
        ) from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise UsageError(f"{' '.join(command)} failed: {lines[-1]}") from None
