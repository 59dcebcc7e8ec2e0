"""The site of docs/, as `make docs` builds it: no broken link, and nothing from another host."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


class Html(HTMLParser):
    """What one page links to, what it loads, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADING and LOADING[tag] in values and values.get("rel") != "canonical":
            self.loaded.append(values[LOADING[tag]])


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    built = build(ROOT, site)
    assert built.returncode == 0, built.stdout + built.stderr
    return site


@pytest.fixture(scope="module")
def html(site: Path) -> dict[Path, Html]:
    return {file: Html(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_document_is_a_page_of_the_site(html: dict[Path, Html], site: Path) -> None:
    pages = {file.relative_to(site).as_posix() for file in html}
    documents = {f"{file.stem}.html" for file in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if not page.startswith("repository/")} == documents
    assert {"repository/index.html", "repository/CONTRIBUTING.html"} <= pages


def test_every_block_of_code_is_read_as_code(html: dict[Path, Html]) -> None:
    assert [file for file in html if "```" in file.read_text()] == []


def test_every_link_and_picture_leads_to_a_file_and_an_anchor(html: dict[Path, Html]) -> None:
    broken = []
    for file, page in html.items():
        for target in (*page.links, *page.loaded):
            parts = urlsplit(target)
            if parts.scheme:
                continue
            linked = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if linked.is_dir():
                linked /= "index.html"
            anchor = unquote(parts.fragment)
            if not linked.is_file() or (
                anchor and linked in html and anchor not in html[linked].anchors
            ):
                broken.append(f"{file.name}: {target}")
    assert broken == []


def test_nothing_is_loaded_from_another_host(html: dict[Path, Html], site: Path) -> None:
    assert {target for page in html.values() for target in page.loaded if "//" in target} == set()
    for sheet in site.rglob("*.css"):
        imported = re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text())
        assert imported == [], sheet


@pytest.mark.parametrize(
    "broken",
    [
        "[a page](missing.md)",
        "[an anchor](results.md#missing)",
        "[the README's anchor](../README.md#missing)",
        "[a file](../factors/library/missing.json)",
        "[a file outside](../../missing.md)",
        "![a picture](pictures/missing.png)",
        '<img src="pictures/missing.png">',
    ],
)
def test_a_broken_link_fails_the_build(site: Path, tmp_path: Path, broken: str) -> None:
    for file in (*PAGES, "mkdocs.yml", "tools/site_links.py", *copied(site)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{broken}\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert "missing" in built.stderr


def copied(site: Path) -> Iterator[Path]:
    """The repository's files that the site carries as they are."""
    for file in (site / "repository").rglob("*"):
        if file.is_file() and file.suffix != ".html":
            yield file.relative_to(site / "repository")


@pytest.mark.parametrize("file", [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in PAGES)])
def test_what_belongs_to_a_list_is_indented_by_four(file: Path) -> None:
    """By less, Python-Markdown ends the list; GitHub shows both alike."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"^ {1,3}(?:[-*]|\d+\.) .*|(?<=\n\n) {1,3}\S.*", text, flags=re.M) == []
