"""An evaluation that is killed while it writes its results."""

import time
from pathlib import Path

from tests.factors import processes


def killed_evaluation(arguments: list[object], output: Path, lines: int, most: int) -> bytes:
    """What `evaluate` has written to `output` when it is killed, after so many lines or more.

    Fewer than `most`, all of them. Then `output` ends as if the kill had come in the middle of a
    line.
    """
    words = ["evaluate", *map(str, arguments), "-o", str(output)]
    process = processes.started(processes.command, words)
    while not output.exists() or output.read_bytes().count(b"\n") < lines:
        assert process.is_alive()
        time.sleep(0.001)
    processes.killed(process)
    before = output.read_bytes()
    assert lines <= before.count(b"\n") < most
    with output.open("ab") as file:
        file.write(before[:99])
    return before
