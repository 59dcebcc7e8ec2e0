"""Drafts are verified under the request's own set and never cross its limit."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from tests.plugin.conftest import ON_V2
from tests.plugin.engine import counter, engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import TinyModel, give_words, tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners


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
    model = give_words(tiny_model(tmp_path / "model"))
    reference = Reference(model.directory, model.factor_file)
    speculative = {"num_speculative_tokens": 4, **drafts(model)}
    prompts = [prompt * 9 for prompt in random_prompts([5, 6, 7, 10, 13], seed=20)]
    with engine(model, speculative_config=speculative) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=60))
        accepted = counter(llm, "vllm:spec_decode_num_accepted_tokens")
        promotions = scheduler(llm).promotions
    for prompt, output in zip(prompts, outputs, strict=True):
        assert len(output) == 60
        reference.expect(prompt, output)
    print(f"{accepted} draft tokens were accepted")
    assert accepted > 0
    assert promotions > 0


def test_a_limit_that_drafts_in_flight_may_reach(tmp_path: Path) -> None:
    """An asynchronous step waits for them: nothing is computed anew before its promotion."""
    model = give_words(tiny_model(tmp_path / "model"))
    speculative = {"num_speculative_tokens": 4, **draft_model(model)}
    arguments = {"async_scheduling": True, "speculative_config": speculative}
    prompts = [prompt * 9 for prompt in random_prompts([5, 6, 7], seed=20)]
    with engine(model, **arguments) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=60))
        preempted = counter(llm, "vllm:num_preemptions")
        promotions = scheduler(llm).promotions
    reference = Reference(model.directory, model.factor_file)
    for prompt, output in zip(prompts, outputs, strict=True):
        assert len(output) == 60
        reference.expect(prompt, output)
    assert preempted == promotions > 0
