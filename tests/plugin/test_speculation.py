"""Drafts are verified under the request's own set and never cross its limit."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from longrope_plugin import compat
from transformers import AutoConfig, AutoModelForCausalLM

from tests.plugin.conftest import ON_V2
from tests.plugin.engine import random_prompts
from tests.plugin.models import TinyModel, give_words, tiny_model
from tests.plugin.reference import Reference
from tests.serving import LONGROPE_SERVE, running

pytestmark = pytest.mark.both_runners

try:
    compat.check_front_end()
except RuntimeError as error:  # an older vLLM: `scripts/check-vllm`
    pytest.skip(str(error), allow_module_level=True)

ENVIRONMENT = {"VLLM_USE_V2_MODEL_RUNNER": "1"} if ON_V2 else {}


def ngrams(_: TinyModel) -> dict[str, Any]:
    return {"method": "ngram", "prompt_lookup_max": 2, "prompt_lookup_min": 1}


def draft_model(model: TinyModel) -> dict[str, Any]:
    """The same weights with plain RoPE: a draft that is right now and then."""
    directory = model.directory.with_name("draft")
    config = AutoConfig.from_pretrained(model.directory)
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    del config.longrope_factors
    AutoModelForCausalLM.from_pretrained(model.directory, config=config).save_pretrained(directory)
    return {
        "method": "draft_model",
        "model": str(give_words(TinyModel(directory, model.factor_file)).directory),
    }


@pytest.mark.parametrize(
    "drafts", [ngrams, pytest.param(draft_model, marks=() if ON_V2 else pytest.mark.slow)]
)
def test_drafts(tmp_path: Path, drafts: Any) -> None:
    """In a server of its own: vLLM starts no second engine in a process that has run n-grams."""
    model = give_words(tiny_model(tmp_path / "model"))
    reference = Reference(model.directory, model.factor_file)
    speculative = {"num_speculative_tokens": 4, **drafts(model)}
    prompts = [prompt * 9 for prompt in random_prompts([5, 6, 7, 10, 13], seed=20)]
    flags = ["--dtype=float32", f"--speculative-config={json.dumps(speculative)}"]
    command = [*LONGROPE_SERVE, model.directory, *flags]
    with running(command, tmp_path / "log", **ENVIRONMENT) as server:
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
    print(f"{accepted:.0f} draft tokens were accepted")
    assert accepted > 0
    assert answer.json()["usage"]["factor_set"]["promoted"]
