"""Chats while 2,097,000-token prompts are prefilled: `make bench-mixed` on a one-layer model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.models import give_words, tiny_model


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_chats_do_not_wait_for_two_million_tokens(tmp_path: Path) -> None:
    model = give_words(
        tiny_model(
            tmp_path / "mistral",
            "mistral",
            limits=(8192, 2_097_152),
            num_hidden_layers=1,
            sliding_window=512,
            vocab_size=49152,
            two_lists=True,
        )
    )
    command = [sys.executable, "-m", "bench.mixed", "--model", model.directory]
    options = ["--profile", "two-million", "--rounds", "1", "-o", tmp_path / "results"]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    assert done.returncode == 0
    figures = [
        json.loads((tmp_path / f"results/{name}-0/result.json").read_text())["figures"]
        for name in ("stock", "ours")
    ]
    for of in figures:
        assert of["document"]["requests"]["complete"] == 2
        assert of["chat"]["requests"]["failed"] == 0
