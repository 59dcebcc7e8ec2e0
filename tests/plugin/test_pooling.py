"""Vectors equal Hugging Face's last hidden states for each prompt alone with its set."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import vllm
from longrope_plugin import pacing

from tests.plugin.engine import engine, random_prompts
from tests.plugin.models import TinyModel, give_words, tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners

# Before 0.32, vLLM itself never ends a prompt of max_model_len tokens that it reads in pieces.
LONGEST = 256 if vllm.__version_tuple__[:2] >= (0, 32) else 255
LENGTHS = [5, 200, 63, 64, 65, 127, 128, 129, LONGEST]
SETS = [0, 2, 0, 0, 1, 1, 1, 2, 2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    directory = tmp_path_factory.mktemp("llama")
    return give_words(tiny_model(directory, vocab_size=49152))  # vLLM's pooling asks for words


@pytest.fixture(scope="module")
def reference(model: TinyModel) -> Reference:
    return Reference(model.directory, model.factor_file)


@pytest.fixture(scope="module", params=["length", "reserve"])
def llm(request: pytest.FixtureRequest, model: TinyModel) -> Iterator[Any]:
    policy = {"longrope_selection": request.param}
    pooling = {"runner": "pooling", "skip_tokenizer_init": False, "additional_config": policy}
    with engine(model, **pooling) as llm:
        yield llm


def embedded(llm: Any, prompts: list[list[int]]) -> list[torch.Tensor]:
    """One vector of length 1 for each prompt, all in one batch."""
    outputs = llm.embed([{"prompt_token_ids": prompt} for prompt in prompts], use_tqdm=False)
    return [torch.tensor(output.outputs.embedding) for output in outputs]


def test_one_batch_around_every_limit(llm: Any, reference: Reference) -> None:
    prompts = random_prompts(LENGTHS, seed=40)
    vectors = embedded(llm, prompts)
    for prompt, index, vector in zip(prompts, SETS, vectors, strict=True):
        right = reference.vector(prompt, index)
        torch.testing.assert_close(vector, right, rtol=0, atol=1e-5)
        for other in {0, 1, 2} - {index}:
            assert (vector - reference.vector(prompt, other)).norm() > 0.02


def test_prompts_with_one_beginning_share_no_keys_across_sets(
    llm: Any, reference: Reference
) -> None:
    (text,) = random_prompts([256], seed=41)
    for length, index in [(64, 0), (LONGEST, 2), (128, 1), (60, 0), (200, 2), (100, 1)]:
        (vector,) = embedded(llm, [text[:length]])
        torch.testing.assert_close(
            vector, reference.vector(text[:length], index), rtol=0, atol=1e-5
        )


def test_the_mean_of_prompts_that_are_read_whole(model: TinyModel, reference: Reference) -> None:
    """vLLM cannot read such a model's prompts in parts: its engine would end."""
    pooling = {"runner": "pooling", "skip_tokenizer_init": False}
    mean = {
        "pooler_config": {"pooling_type": "MEAN"},
        "max_num_batched_tokens": 512,
        "additional_config": {pacing.KEY: 1e-6},  # of prompts in parts, 32 tokens a step
    }
    prompts = random_prompts([200, 256, 129, 128, 60], seed=42)
    with engine(model, **pooling, **mean) as llm:
        for _ in range(2):  # by the second time, steps have been timed
            vectors = embedded(llm, prompts)
            for prompt, index, vector in zip(prompts, [2, 2, 2, 1, 0], vectors, strict=True):
                right = reference.vector(prompt, index, mean=True)
                torch.testing.assert_close(vector, right, rtol=0, atol=1e-5)
