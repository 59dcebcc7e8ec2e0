"""Prompts of 2,097,152 tokens, less those of the answer, through HTTP, for real."""

import random
import re
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import torch
from transformers import AutoTokenizer

from tests.plugin.models import TinyModel, give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, Server, running

LIMITS = (8192, 131_072, 1_048_576, 2_097_152)
WINDOW = 512
OUTPUT = 16


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TinyModel, Server]]:
    """One layer and a sliding window keep it affordable, and make a reference possible:
    the last token sees only its window, which Hugging Face can run at its true positions."""
    directory = tmp_path_factory.mktemp("two-million")
    model = give_words(
        tiny_model(
            directory / "mistral",
            "mistral",
            limits=LIMITS,
            num_hidden_layers=1,
            sliding_window=WINDOW,
            vocab_size=49152,
        )
    )
    flags = ["--dtype=float32", "--max-num-seqs=2", "--max-num-batched-tokens=65536"]
    command = [*LONGROPE_SERVE, model.directory, *flags]
    with running(command, directory / "log") as server:
        yield model, server


def test_two_million_tokens_of_text(served: tuple[TinyModel, Server]) -> None:
    model, server = served
    text, tokens = _words(model, LIMITS[-1] - OUTPUT)
    before = server.memory()
    start = time.monotonic()
    with Peak(server) as peak:
        answer = server.complete(model.directory, text, OUTPUT)
    seconds = time.monotonic() - start
    output = answer.json()["choices"][0]["token_ids"]
    print(
        f"\n{len(tokens):,} prompt tokens and {len(output)} more in {seconds:.1f} s; memory of "
        f"all processes {before / 2**30:.2f} GiB before, {peak.bytes / 2**30:.2f} GiB at its peak"
    )
    assert answer.headers["x-longrope-factor-set"] == str(LIMITS[-1])
    assert answer.json()["usage"]["prompt_tokens"] == len(tokens)
    assert len(output) == OUTPUT
    assert output[:4] == _expected(Reference(model.directory, model.factor_file), tokens, 4)
    same = server.complete(model.directory, tokens, OUTPUT)  # the prefix cache has them
    assert same.json()["choices"][0]["token_ids"] == output
    longest = server.complete(model.directory, text + " the" * (OUTPUT - 1), 1)
    assert longest.json()["usage"]["prompt_tokens"] == LIMITS[-1] - 1
    assert longest.headers["x-longrope-factor-set"] == str(LIMITS[-1])


def test_one_token_too_many(served: tuple[TinyModel, Server]) -> None:
    model, server = served
    body = {"model": str(model.directory), "prompt": " the" * (LIMITS[-1] + 1)}
    refused = httpx.post(f"{server.url}/v1/completions", json=body, timeout=500)
    assert refused.status_code == 400
    assert f"{LIMITS[-1] + 1} input tokens" in refused.json()["error"]["message"]


def _words(model: TinyModel, count: int) -> tuple[str, list[int]]:
    """Text of short words, each of them a token of its own, and the tokens."""
    vocabulary = AutoTokenizer.from_pretrained(model.directory).get_vocab()
    words = sorted(word for word in vocabulary if re.fullmatch(r"Ġ[a-z]{1,4}", word))
    chosen = random.Random(0).choices(words, k=count)
    return "".join(chosen).replace("Ġ", " "), [vocabulary[word] for word in chosen]


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
