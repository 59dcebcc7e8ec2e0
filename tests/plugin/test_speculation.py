"""N-gram drafts are verified under the request's own set and never cross its limit."""

from pathlib import Path

import pytest

from tests.plugin.conftest import ON_V2
from tests.plugin.engine import counter, engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference


@pytest.mark.skipif(ON_V2, reason="n-gram drafts run on V1")
def test_ngram_drafts(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    reference = Reference(model.directory, model.factor_file)
    speculative = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 2}
    speculative["prompt_lookup_min"] = 1
    prompts = [p * 9 for p in random_prompts([5, 6, 7, 10, 13], seed=20)]
    with engine(model, speculative_config=speculative) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=60))
        accepted = counter(llm, "vllm:spec_decode_num_accepted_tokens")
        promotions = scheduler(llm).promotions
    for prompt, output in zip(prompts, outputs, strict=True):
        assert len(output) == 60
        reference.expect(prompt, output)
    assert accepted > 0
    assert promotions == sum(
        model.factor_file.select(len(p) + 59) - model.factor_file.select(len(p)) for p in prompts
    )
