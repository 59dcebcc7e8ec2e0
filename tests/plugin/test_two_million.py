"""A prompt of 2,097,152 - 16 tokens through HTTP, for real."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from longrope_server.embedded import model_directory

from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference

LIMITS = (8192, 131_072, 1_048_576, 2_097_152)
WINDOW = 512
OUTPUT = 16


def test_two_million_tokens_through_http(tmp_path: Path) -> None:
    """One layer and a sliding window keep it affordable, and make a reference possible:
    the last token sees only its window, which Hugging Face can run at its true positions."""
    model = tiny_model(
        tmp_path / "mistral",
        "mistral",
        limits=LIMITS,
        num_hidden_layers=1,
        sliding_window=WINDOW,
        vocab_size=49152,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model.directory / name).write_bytes((model_directory() / name).read_bytes())
    generator = random.Random(0)
    prompt = [generator.randrange(100, 49000) for _ in range(LIMITS[-1] - OUTPUT)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [Path(sys.executable).with_name("longrope"), "serve", model.directory]
    flags = [
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"),
        *("--max-num-seqs", "2", "--max-num-batched-tokens", "65536"),
    ]
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, *flags],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
        )
    try:
        _wait(url, server, log)
        body = {
            "model": str(model.directory),
            "prompt": prompt,
            "max_tokens": OUTPUT,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        before = _memory(server.pid)
        start = time.monotonic()
        with _Peak(server.pid) as peak:
            answer = httpx.post(f"{url}/v1/completions", json=body, timeout=500)
        seconds = time.monotonic() - start
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["x-longrope-factor-set"] == str(LIMITS[-1])
    output = answer.json()["choices"][0]["token_ids"]
    print(
        f"\n{len(prompt):,} prompt tokens and {len(output)} more in {seconds:.1f} s; memory of "
        f"all processes {before / 2**30:.2f} GiB before, {peak[0] / 2**30:.2f} GiB at its peak"
    )
    assert len(output) == OUTPUT
    assert output[:4] == _expected(Reference(model.directory, model.factor_file), prompt, 4)


def _expected(reference: Reference, prompt: list[int], n: int) -> list[int]:
    tokens = list(prompt)
    reference._set = reference.factor_file.sets[-1]
    for _ in range(n):
        seen = tokens[-2 * WINDOW :]
        positions = torch.arange(len(tokens) - len(seen), len(tokens))[None]
        with torch.inference_mode():
            output = reference.model(torch.tensor([seen]), position_ids=positions, use_cache=False)
        tokens.append(int(output.logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended at start-up:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


def _memory(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    parent = psutil.Process(pid)
    total = 0
    for process in (parent, *parent.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class _Peak:
    """Samples `_memory` ten times a second; its one item is the largest seen."""

    def __init__(self, pid: int) -> None:
        import threading

        self.largest = [0]
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample, args=(pid,))

    def _sample(self, pid: int) -> None:
        while not self.done.wait(0.1):
            self.largest[0] = max(self.largest[0], _memory(pid))

    def __enter__(self) -> list[int]:
        self.thread.start()
        return self.largest

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
