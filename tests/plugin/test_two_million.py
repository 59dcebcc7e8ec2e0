"""A prompt of 2,097,152 - 16 tokens through HTTP, for real."""

import random
import threading
import time
from pathlib import Path

import torch

from tests.plugin.models import give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, Server, running

LIMITS = (8192, 131_072, 1_048_576, 2_097_152)
WINDOW = 512
OUTPUT = 16


def test_two_million_tokens_through_http(tmp_path: Path) -> None:
    """One layer and a sliding window keep it affordable, and make a reference possible:
    the last token sees only its window, which Hugging Face can run at its true positions."""
    model = give_words(
        tiny_model(
            tmp_path / "mistral",
            "mistral",
            limits=LIMITS,
            num_hidden_layers=1,
            sliding_window=WINDOW,
            vocab_size=49152,
        )
    )
    generator = random.Random(0)
    prompt = [generator.randrange(100, 49000) for _ in range(LIMITS[-1] - OUTPUT)]
    flags = ["--dtype=float32", "--max-num-seqs=2", "--max-num-batched-tokens=65536"]
    with running([*LONGROPE_SERVE, model.directory, *flags], tmp_path / "log") as server:
        before = server.memory()
        start = time.monotonic()
        with Peak(server) as peak:
            answer = server.complete(model.directory, prompt, OUTPUT)
        seconds = time.monotonic() - start
    assert answer.headers["x-longrope-factor-set"] == str(LIMITS[-1])
    output = answer.json()["choices"][0]["token_ids"]
    print(
        f"\n{len(prompt):,} prompt tokens and {len(output)} more in {seconds:.1f} s; memory of "
        f"all processes {before / 2**30:.2f} GiB before, {peak.bytes / 2**30:.2f} GiB at its peak"
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


class Peak:
    """Samples a server's memory ten times a second; `bytes` is the largest seen."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.bytes = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self.done.wait(0.1):
            self.bytes = max(self.bytes, self.server.memory())

    def __enter__(self) -> "Peak":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
