"""Models whose tokens have several positions (M-RoPE): text has the same number in all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
from longrope_plugin.rotation.sections import sections

from tests.plugin.engine import STEPS, engine, generate, random_prompts, scheduler, tokens
from tests.plugin.image_processing import import_model
from tests.plugin.models import TinyModel, random_factor_file, tiny_model
from tests.plugin.reference import Reference

# Qwen3.5's rotation on its scale: a quarter of each head rotates, and the sections take turns.
SECTIONS = {"mrope_section": [2, 1, 1], "mrope_interleaved": True}
HYBRID = {
    "layer_types": ["full_attention", "full_attention"],
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "full_attention_interval": 2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_model(
        tmp_path_factory.mktemp("hybrid"),
        "qwen3_5_text",
        partial_rotary_factor=0.25,
        rope_fields=SECTIONS,
        **HYBRID,
    )


@pytest.fixture(scope="module", params=STEPS)
def llm(request: pytest.FixtureRequest, model: TinyModel) -> Iterator[Any]:
    import_model("qwen3_5")
    with engine(model, async_scheduling=request.param == "async") as llm:
        yield llm


def test_text_around_every_limit(llm: Any, model: TinyModel) -> None:
    reference = Reference(model.directory, model.factor_file)
    prompts = random_prompts([5, 40, 62, 64, 65, 100, 127, 128, 150], seed=1)
    outputs = tokens(generate(llm, prompts, max_tokens=16))
    assert scheduler(llm).promotions == 4
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
