"""The command's standard streams: full, closed, or in an encoding without some characters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FACTORS = Path(__file__).parents[2] / "factors/library/smollm2-135m.json"
LONGROPE = [sys.executable, "-c", "from longrope_server.cli import main; main()"]


@pytest.mark.parametrize(
    "words",
    [
        ["version"],
        ["plan", "--help"],
        ["factors", "library", "list"],
        ["loadtest", "profiles"],
        ["key", "new", "a", "--file"],
    ],
)
def test_output_that_cannot_be_written_is_a_sentence(words: list[str], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    if words[-1] == "--file":
        words = [*words, str(keys)]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([*LONGROPE, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    said = "longrope: The output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not keys.exists() or not keys.read_text()  # nobody saw the key


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
@pytest.mark.parametrize(
    "words", ["version", "factors library list", "loadtest profiles", "plan --help"]
)
def test_streams_may_be_closed(words: str, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {words} {closed}', "sh", *LONGROPE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed == "2>&-")


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    command = [*LONGROPE, "factors", "library", "list"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    done = subprocess.run(command, capture_output=True, env=environment, encoding="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u2026" in done.stdout  # the dots of what a narrow table cuts


def test_a_file_name_that_is_not_utf_8_is_shown(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.json"
    shutil.copy(FACTORS, path)
    done = subprocess.run([*LONGROPE, "factors", "show", path], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
