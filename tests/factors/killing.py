"""An evaluation that is killed while it writes its results."""

import signal
import subprocess
import sys
import time
from pathlib import Path


def killed_evaluation(arguments: list[object], output: Path, lines: int, most: int) -> bytes:
    """What `evaluate` has written to `output` when it is killed, after so many lines or more.

    Fewer than `most`, all of them. Then `output` ends as if the kill had come in the middle of a
    line.
    """
    command = [sys.executable, "-m", "longrope_factors.cli", "evaluate", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "-o", str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not output.exists() or output.read_bytes().count(b"\n") < lines:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = output.read_bytes()
    assert lines <= before.count(b"\n") < most
    with output.open("ab") as file:
        file.write(before[:99])
    return before
