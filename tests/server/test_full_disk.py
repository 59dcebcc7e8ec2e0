import subprocess
import sys
from pathlib import Path

import pytest


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
    command = [sys.executable, "-c", "from longrope_server.cli import main; main()", *words]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    said = "longrope: The output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not keys.exists() or not keys.read_text()  # nobody saw the key
