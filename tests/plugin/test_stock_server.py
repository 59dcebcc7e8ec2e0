"""vLLM's own server, with the plug-in installed, serves the same model alike."""

from pathlib import Path

import pytest

from tests.plugin.engine import random_prompts
from tests.plugin.models import give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, STOCK_SERVE, running


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(STOCK_SERVE, id="stock"),
        pytest.param(LONGROPE_SERVE, id="longrope", marks=pytest.mark.slow),  # a minute more
    ],
)
def test_servers_alike(tmp_path: Path, command: tuple[str, ...]) -> None:
    model = give_words(tiny_model(tmp_path / "model", vocab_size=49152))
    reference = Reference(model.directory, model.factor_file)
    prompts = random_prompts([5, 63, 64, 65, 120, 200], seed=30)
    flags = ["--dtype=float32", "--max-num-batched-tokens=64", "--max-model-len=256"]
    with running([*command, model.directory, *flags], tmp_path / "log") as server:
        answer = server.complete(model.directory, prompts, 20)
    for prompt, choice in zip(prompts, answer.json()["choices"], strict=True):
        reference.expect(prompt, choice["token_ids"])
    assert ("x-longrope-factor-set" in answer.headers) == (command is LONGROPE_SERVE)
