"""`longrope ask` as a process: its imports, its terminal, Ctrl-C and a pipe that closes."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server.ask.stand_in import PARIS, StandIn, delta

COMMAND = """
import atexit, sys
from longrope_server.cli import main
heavy = ("vllm", "torch", "transformers", "longrope_plugin")
atexit.register(lambda: print([name for name in heavy if name in sys.modules]))
main()
"""
ASK = [str(Path(sys.executable).with_name("longrope")), "ask"]


def test_nothing_heavy_is_imported(server: StandIn, document: Path) -> None:
    words = [str(document), "Which?", "--url", server.url]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "ask", *words], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "The capital is Paris.\n[]\n", done.stderr


def test_the_document_comes_through_a_pipe(server: StandIn) -> None:
    done = subprocess.run(
        [*ASK, "-", "Which?", "--url", server.url],
        input="Grüße aus Paris".encode(),
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"The capital is Paris.\n", done.stderr
    assert server.asked["messages"][0]["content"] == "Grüße aus Paris\n\nWhich?"


def test_ctrl_c_stops_the_answer_and_frees_the_request(server: StandIn, document: Path) -> None:
    server.stream, server.ending = [*PARIS[:2]], "held"
    process = subprocess.Popen(
        [*ASK, str(document), "Which?", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(11) == b"The capital"  # as it comes, not at the end
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)  # the server holds it for 30 s
    assert (process.returncode, out, err) == (130, b"\n", b"")
    assert server.left.wait(5)


def test_ctrl_c_ends_the_wait_for_a_server_that_reads(server: StandIn, document: Path) -> None:
    server.stream, server.ending = [b": prefill 1/2\n\n"], "held"
    process = subprocess.Popen(
        [*ASK, str(document), "Which?", "--url", server.url], stderr=subprocess.PIPE
    )
    while "/v1/chat/completions" not in server.paths:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")
    assert server.left.wait(5)


def test_a_reader_that_leaves_ends_it_quietly(server: StandIn, document: Path) -> None:
    server.stream = [delta("x" * 100), 0.5, *[delta("y" * 70_000)] * 20, *PARIS]
    process = subprocess.Popen(
        [*ASK, str(document), "Which?", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(100) == b"x" * 100
    process.stdout.close()
    assert process.wait(20) == 1
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_is_a_sentence(server: StandIn, document: Path, more: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*ASK, str(document), "Which?", "--url", server.url, *more],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "longrope: The answer cannot be written to stdout: No space left on device.\n"
    )


def test_standard_input_may_be_closed(server: StandIn) -> None:
    command = 'exec "$0" ask - Which? <&-'
    done = subprocess.run(["sh", "-c", command, ASK[0]], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "longrope")
    assert "Standard input is closed" in done.stderr


def on_terminal(*words: str) -> tuple[int, str]:
    """The status of a command and all that it wrote to its terminal, 100 columns wide."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    process = subprocess.Popen(
        [*ASK, *words], stdout=slave, stderr=slave, env=environment, close_fds=True
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO is how a terminal without writers ends
        while part := os.read(master, 65536):
            shown += part
    os.close(master)
    return process.wait(20), shown.decode()


@pytest.mark.long
def test_a_terminal_shows_how_far_the_prompt_is_read(server: StandIn, document: Path) -> None:
    progress = [f": prefill {tokens}/4000\n\n".encode() for tokens in (500, 1000, 2000)]
    server.stream = [0.5, *[part for comment in progress for part in (comment, 0.5)], *PARIS]
    status, shown = on_terminal(str(document), "Which?", "--url", server.url)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert status == 0
    assert re.search(r"waiting for tiny 0:00:00", plain)
    assert re.search(r"reading ━.* 2,000/4,000 tokens [\d,]+ tokens/s 0:00:0\d", plain)
    # The bar is gone when the answer begins: the line is erased, then written.
    assert re.search(r"\x1b\[2KThe capital is Paris\.\r\n", shown)
    assert shown.endswith("\x1b[0m\r\n")
    assert "100 prompt and 7 answer tokens" in plain.splitlines()[-1]


def test_a_terminal_is_not_steered_by_an_answer(server: StandIn, document: Path) -> None:
    server.stream = [delta("\x1b]0;title\x07safe", "stop")]
    _, shown = on_terminal(str(document), "Which?", "--url", server.url)
    assert "\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}safe" in shown


def test_ctrl_c_leaves_the_terminal_as_it_was(server: StandIn, document: Path) -> None:
    server.stream, server.ending = [], "held"
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*ASK, str(document), "Which?", "--url", server.url], stdout=slave, stderr=slave
    )
    os.close(slave)
    while "/v1/chat/completions" not in server.paths:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    shown = os.read(master, 65536)
    os.close(master)
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")  # the cursor is back
