"""N-gram drafts are verified under the request's own set and never cross its limit."""

import json
from pathlib import Path

import httpx

from tests.plugin.engine import random_prompts
from tests.plugin.models import give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, running


def test_ngram_drafts(tmp_path: Path) -> None:
    """In a server of its own: vLLM starts no second engine in a process that has run n-grams."""
    model = give_words(tiny_model(tmp_path / "model"))
    reference = Reference(model.directory, model.factor_file)
    speculative = {
        "method": "ngram",
        "num_speculative_tokens": 4,
        "prompt_lookup_max": 2,
        "prompt_lookup_min": 1,
    }
    prompts = [prompt * 9 for prompt in random_prompts([5, 6, 7, 10, 13], seed=20)]
    flags = ["--dtype=float32", f"--speculative-config={json.dumps(speculative)}"]
    with running([*LONGROPE_SERVE, model.directory, *flags], tmp_path / "log") as server:
        answer = server.complete(model.directory, prompts, 60)
        metrics = httpx.get(f"{server.url}/metrics").text
    for prompt, choice in zip(prompts, answer.json()["choices"], strict=True):
        assert len(choice["token_ids"]) == 60
        reference.expect(prompt, choice["token_ids"])
    (accepted,) = [
        float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith("vllm:spec_decode_num_accepted_tokens_total")
    ]
    assert accepted > 0
    assert answer.json()["usage"]["factor_set"]["promoted"]
