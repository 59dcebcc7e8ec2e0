"""vLLM's own server, with the plug-in installed, serves the same model alike."""

from pathlib import Path

import httpx
import pytest

from tests.plugin.adapters import RANK, give_adapters, merged
from tests.plugin.engine import random_prompts
from tests.plugin.models import give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, STOCK_SERVE, WITH_WORKER, running

CALLERS = ["--enable-lora", f"--max-lora-rank={2 * RANK}", "--lora-modules"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(STOCK_SERVE, id="stock"),
        pytest.param(LONGROPE_SERVE, id="longrope", marks=pytest.mark.slow),  # a minute more
    ],
)
def test_servers_alike(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Sets with adapters beside a caller's own, which is served where the set has none."""
    plain = give_words(tiny_model(tmp_path / "model", vocab_size=49152))
    model = give_adapters(plain, 1, 2)
    reference = Reference(model.directory, model.factor_file)
    callers = Reference(model.directory, model.factor_file)
    callers.models[0] = merged(model, 1)
    reference.models.update({index: merged(model, index) for index in (1, 2)})
    prompts = random_prompts([5, 63, 64, 65, 120, 200], seed=30)
    flags = [
        *("--dtype=float32", "--max-num-batched-tokens=64", "--max-model-len=256"),
        *(*CALLERS, f"mine={model.directory / 'adapter-1'}"),
    ]
    with running([*command, model.directory, *flags], tmp_path / "log", **WITH_WORKER) as server:
        answer = server.complete(model.directory, prompts, 20)
        of_caller = server.complete("mine", prompts[:1], 20)
        refused = httpx.post(
            f"{server.url}/v1/completions",
            json={"model": "mine", "prompt": prompts[1], "max_tokens": 20},
        )
    for prompt, choice in zip(prompts, answer.json()["choices"], strict=True):
        reference.expect(prompt, choice["token_ids"])
    callers.expect(prompts[0], of_caller.json()["choices"][0]["token_ids"])
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == (
        "The request names a LoRA adapter, but the factor set of 128 tokens that it may come to "
        "has one of its own: keep prompt and max_tokens within 64 tokens."
    )
    assert ("x-longrope-factor-set" in answer.headers) == (command is LONGROPE_SERVE)
