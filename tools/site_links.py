"""What MkDocs lacks for docs/: links to files of the repository outside it, named code blocks.

A page of docs/ may link to any file of the repository, as on GitHub. The site carries the files
that pages link to under repository/: README.md and CONTRIBUTING.md as pages, others as they are.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs"
COPIES = "repository"

# The target of a link or a picture in Markdown, and of a picture in HTML, without its anchor.
_TARGET = re.compile(r'(?P<before>\]\(|<img src=")(?P<target>[^)\s"#]+)')

# A block of code that has a name for the tests after its language.
_NAMED_BLOCK = re.compile(r"^(```[a-z]+) \S+$", re.MULTILINE)

log = logging.getLogger(f"mkdocs.{__name__}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files outside docs/ that pages link to, and those that these link to."""
    unread = [Path(file.abs_src_path or "") for file in files.documentation_pages()]
    while unread:
        source = unread.pop()
        for path in _linked(source):
            name = _in_site(path)
            if name.startswith(f"{COPIES}/") and name not in files.src_uris and path.is_file():
                files.append(File.generated(config, name, abs_src_path=str(path)))
                if path.suffix == ".md":
                    unread.append(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files of the repository into links to the site's files.

    Also takes the names of code blocks away, which MkDocs would not read as code.
    """
    source = Path(page.file.abs_src_path or "")
    folder = posixpath.dirname(page.file.src_uri)

    def in_site(match: re.Match[str]) -> str:
        path = _path(source, match["target"])
        if path is None:
            return match[0]
        name = _in_site(path)
        if name not in files.src_uris:
            log.warning(f"{source.relative_to(ROOT)} links to {match['target']}: no such file.")
            return match[0]
        return match["before"] + posixpath.relpath(name, folder or ".")

    return _NAMED_BLOCK.sub(r"\1", _TARGET.sub(in_site, markdown))


def _linked(source: Path) -> list[Path]:
    targets = _TARGET.finditer(source.read_text(encoding="utf-8"))
    paths = (_path(source, match["target"]) for match in targets)
    return [path for path in paths if path is not None]


def _path(source: Path, target: str) -> Path | None:
    """The file of the repository that a target names; MkDocs judges all others."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path = (source.parent / target).resolve()
    return path if path.is_relative_to(ROOT) else None


def _in_site(path: Path) -> str:
    """Where the site has a file of the repository, relative to the site's root."""
    relative = path.relative_to(ROOT)
    if relative.parts[:1] == (DOCS,):
        return relative.relative_to(DOCS).as_posix()
    return f"{COPIES}/{relative.as_posix()}"
