"""docs/clients.md as a test runs it: its named blocks, sent to the test's server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs" / "clients.md"
ADDRESS = "http://127.0.0.1:8000"
FENCE = re.compile(r"^```(?:\w+ (?P<name>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """The text of every fenced block by its name, the second word of its fence."""
    found = {}
    for match in FENCE.finditer(DOCUMENT.read_text()):
        name = match["name"]
        assert name is not None, f"A test needs the name of the block {match['text']!r}."
        assert name not in found
        found[name] = match["text"]
    return found


def block(name: str, url: str) -> str:
    """The text of one block, for the server at `url`."""
    return blocks()[name].replace(ADDRESS, url)


def run_python(name: str, url: str) -> None:
    """Runs a block of Python in this process."""
    exec(compile(block(name, url), name, "exec"), {"__name__": "__main__"})


def run_shell(names: tuple[str, ...], url: str, folder: Path, **environment: str) -> str:
    """What blocks of shell, run in one shell in `folder`, print; they must succeed."""
    bash = shutil.which("bash")
    assert bash is not None
    script = "\n".join(block(name, url) for name in names)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [bash, "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def serve_flags() -> list[str]:
    """The flags of the server that the document starts."""
    words = shlex.split(blocks()["serve"].replace("\\\n", " "))
    assert words[:2] == ["longrope", "serve"]
    return words[2:]
