"""Prompts that come as embeddings: their sets are chosen, and changed, by the same lengths."""

from pathlib import Path

import pytest
import torch

from tests.plugin.engine import counter, engine, random_prompts, scheduler
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners


def test_embeddings_are_served_like_their_tokens(tmp_path: Path) -> None:
    from vllm import SamplingParams

    model = tiny_model(tmp_path / "model")
    reference = Reference(model.directory, model.factor_file)
    embeddings = reference.model.get_input_embeddings().weight.detach().cpu()
    prompts = random_prompts([5, 60, 64, 65, 120, 128, 200], seed=21)
    params = SamplingParams(temperature=0, ignore_eos=True, detokenize=False, max_tokens=20)
    with engine(model, enable_prompt_embeds=True) as llm:
        for again in (False, True):
            given = [{"prompt_embeds": embeddings[torch.tensor(prompt)]} for prompt in prompts]
            outputs = llm.generate(given, params, use_tqdm=False)
            for prompt, output in zip(prompts, outputs, strict=True):
                reference.expect(prompt, output.outputs[0].token_ids)
            assert bool(counter(llm, "vllm:prefix_cache_hits")) == again
        assert scheduler(llm).promotions >= 4
