"""Models whose tokens have several positions (M-RoPE): text has the same number in all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from longrope_factors.factor_file import hf
from longrope_factors.factor_file.schema import save
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.sections import sections
from longrope_plugin.rotation.turns import turn_table
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding

from tests.plugin.engine import engine, generate, random_prompts, scheduler, tokens
from tests.plugin.image_processing import import_model
from tests.plugin.models import SIZES, TinyModel, draw_wide, random_factor_file
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners

PUBLISHED = {
    "Qwen2.5-VL": ("qwen2_5_vl_text", Qwen2_5_VLRotaryEmbedding, 128, [16, 24, 24], False),
    "Qwen3.5": ("qwen3_5_text", Qwen3_5TextRotaryEmbedding, 64, [11, 11, 10], True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_pair_turns_by_the_row_that_transformers_takes(name: str) -> None:
    model_type, theirs, rotary_dim, lengths, interleaved = PUBLISHED[name]
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "mrope_section": lengths,
        "mrope_interleaved": interleaved,
    }
    config = AutoConfig.for_model(model_type, head_dim=rotary_dim, rope_parameters=rope)
    file = random_factor_file(rotary_dim, [4096, 8192], start_tokens=0)
    positions = torch.randint(0, 4096, (3, 50), generator=torch.Generator().manual_seed(0))
    table = turn_table(file, sections(rope, rotary_dim))
    for index, factor_set in enumerate(file.sets):
        module = theirs(config)
        module.inv_freq = module.inv_freq / torch.tensor(factor_set.factors)
        module.attention_scaling = factor_set.attention_factor
        cos, sin = module(torch.zeros(1), positions[:, None])
        ours = table.cos_sin(pack(positions, torch.full((50,), index)), torch.float32)
        half = rotary_dim // 2
        expected = torch.cat((cos[0, :, :half], sin[0, :, :half]), dim=1)
        assert torch.allclose(ours, expected, atol=1e-3)  # theirs are angles in float32
        assert not torch.allclose(ours, ours.roll(1, 0), atol=0.1)


def test_sections_that_do_not_add_up() -> None:
    with pytest.raises(
        ValueError, match=r"mrope_section \[2, 1, 2\], which should add up to the 4"
    ):
        sections({"mrope_section": [2, 1, 2]}, 8)


# A model's module in vLLM, its class, and how its sections lie in a head of 32.
MODELS = {
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", {"mrope_section": [4, 6, 6]}),
    "qwen3_vl": (
        "Qwen3VLForConditionalGeneration",
        {"mrope_section": [6, 5, 5], "mrope_interleaved": True},
    ),
}
VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
VISION |= {"out_hidden_size": 128, "fullatt_block_indexes": [0], "deepstack_visual_indexes": [0]}


def tiny_model_with_images(directory: Path, model_type: str) -> TinyModel:
    """Random weights, three sets, and a config that is nested, as those of such models are."""
    architecture, rope_fields = MODELS[model_type]
    rope = {"rope_type": "default", "rope_theta": 10000.0, **rope_fields}
    text = {**SIZES, "rope_parameters": rope}
    config = AutoConfig.for_model(model_type, text_config=text, vision_config=VISION)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    draw_wide(model)
    model.save_pretrained(directory)
    file = random_factor_file(SIZES["head_dim"], [64, 128, 256], architecture=architecture)
    save(file, directory / "longrope_factors.json")
    return TinyModel(directory, file)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    import_model(request.param)
    return tiny_model_with_images(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def llm(model: TinyModel) -> Iterator[Any]:
    path = model.directory / "longrope_factors.json"
    overrides = hf.hf_overrides(model.factor_file, path, hf.read_config(model.directory))
    without_images = {"image": 0, "video": 0}
    with engine(model, hf_overrides=overrides, limit_mm_per_prompt=without_images) as llm:
        yield llm


def test_text_around_every_limit(llm: Any, model: TinyModel) -> None:
    reference = Reference(model.directory, model.factor_file)
    prompts = random_prompts([5, 40, 62, 64, 65, 100, 127, 128, 150], seed=1)
    before = scheduler(llm).promotions
    outputs = tokens(generate(llm, prompts, max_tokens=16))
    assert scheduler(llm).promotions - before == 4
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)


BEFORE, EDGE = 20, 4  # tokens before an image, and the edge of a square one


def numbered(length: int) -> torch.Tensor:
    """Positions int64 [3, length] as Qwen numbers an image: one time, and its rows and columns.

    The text after it goes on from its edge.
    """
    places = torch.arange(EDGE**2)
    image = BEFORE + torch.stack((0 * places, places // EDGE, places % EDGE))
    before, after = torch.arange(BEFORE), torch.arange(BEFORE + EDGE, length)
    parts = (before.expand(3, -1), image, after.expand(3, -1))
    return torch.cat(parts, dim=1)[:, :length]


def test_an_image(llm: Any, model: TinyModel) -> None:
    """The positions that vLLM gives the tokens of an image reach the rotation, with the set."""
    prompts = random_prompts([40, 58, 90, 126], seed=2)
    model_class = type(llm.llm_engine.model_executor.driver_worker.worker.model_runner.get_model())
    numbering = mock.Mock(side_effect=lambda tokens, _: (numbered(len(tokens)), EDGE - EDGE**2))
    with mock.patch.object(model_class, "get_mrope_input_positions", numbering):
        outputs = tokens(generate(llm, prompts, max_tokens=12))
    reference = Reference(model.directory, model.factor_file, numbered=numbered)
    as_text = Reference(model.directory, model.factor_file)
    differ = 0
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
        index = model.factor_file.select(len(prompt))
        logits = as_text.logits([*prompt, *output][:-1], index, len(output))
        differ += int(logits[0].argmax()) != output[0]
    assert differ, "the image's positions make no difference to these prompts"
