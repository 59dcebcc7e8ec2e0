"""Steps without an adapter, beside the adapters of other sets, run as if there were none."""

from unittest import mock

import pytest
from torch._dynamo.utils import counters

from tests.plugin.adapters import adapted_engine, adapted_model, adapted_reference
from tests.plugin.engine import generate, random_prompts, tokens
from tests.plugin.models import TinyModel

LENGTHS = (20, 40, 62, 100, 126, 150)  # the limits are 64, 128 and 192 tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return adapted_model(tmp_path_factory.mktemp("adapted"), 1)


def test_both_are_compiled_before_the_first_request(model: TinyModel) -> None:
    reference = adapted_reference(model, {1: 1})
    compiled = {"enforce_eager": False, "compilation_config": {}}
    with adapted_engine(model, **compiled) as llm:
        graphs = counters["stats"]["unique_graphs"]
        for prompts in ([prompt] for prompt in random_prompts(LENGTHS, seed=20)):
            (output,) = tokens(generate(llm, prompts, max_tokens=8))
            reference.expect(prompts[0], output)
        prompts = random_prompts(LENGTHS, seed=21)
        for prompt, output in zip(
            prompts, tokens(generate(llm, prompts, max_tokens=8)), strict=True
        ):
            reference.expect(prompt, output)
        assert counters["stats"]["unique_graphs"] == graphs


def test_a_step_without_adapters_asks_for_none(model: TinyModel) -> None:
    path = "longrope_plugin.grouped_adapters.LayerAdapters.add_lora_linear"
    with adapted_engine(model) as llm, mock.patch(path) as add:
        for length, is_called in ((20, False), (100, True), (150, False)):
            add.reset_mock()
            generate(llm, random_prompts([length]), max_tokens=4)
            assert add.called == is_called
