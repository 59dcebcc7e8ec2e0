"""The two servers that are compared."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import httpx
from longrope_server.serve.command import compose
from longrope_server.serve.environment import AHEAD_OF_TIME, KV_SPACE, WORKER_PROCESS

START_SECONDS = 600
STOP_SECONDS = 60
FLAGS = ("--enforce-eager",)
# What `longrope serve` chooses on a CPU is the same for all servers: an engine runs in vLLM's own
# processes, and finds what it has compiled.
ENVIRONMENT = {KV_SPACE: "2", WORKER_PROCESS: "1", AHEAD_OF_TIME: "0"}
OURS = "from longrope_server.cli import main; main()"
# The plug-in in the engine loads by itself, the pieces in front only if VLLM_PLUGINS names it.
BARE = (
    "import sys; from longrope_server.serve.vllm_command import run_vllm_serve; "
    "run_vllm_serve(sys.argv[1:])"
)
# The command that a build of vLLM for GPUs installs.
VLLM = "from vllm.entrypoints.cli.main import main; main()"


def our_server(keys: Path) -> AbstractContextManager[str]:
    """The address of the embedded model behind our pieces, with API keys and limits."""
    return running(OURS, ["serve", *FLAGS, f"--api-key-file={keys}"])


def bare_server(*flags: str) -> AbstractContextManager[str]:
    """The address of the same model and engine behind vLLM's application alone."""
    return running(BARE, compose([*FLAGS, *flags]).words)


@contextmanager
def running(code: str, words: Sequence[str], **environment: str) -> Iterator[str]:
    """The address of a server that `code` starts with `words`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    variables = {name: value for name, value in os.environ.items() if name != "VLLM_PLUGINS"}
    with TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words, "--host=127.0.0.1", f"--port={port}"],
            env={**variables, **ENVIRONMENT, **environment},
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_healthy(url, process, log)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    log.seek(0)
    raise SystemExit(f"A server did not start: {log.read()[-2000:].decode(errors='replace')}")
