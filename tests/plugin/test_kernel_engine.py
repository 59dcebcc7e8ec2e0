"""A model that rotates with the GPU's kernel, run by Triton's interpreter."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from longrope_plugin.rotation import kernel

from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference

pytestmark = [
    pytest.mark.both_runners,
    pytest.mark.skipif(ON_GPU, reason="on a GPU, the models of all tests rotate with its kernel"),
]


@pytest.mark.parametrize(
    ("model_type", "fields"), [("llama", {}), ("phi3", {"partial_rotary_factor": 0.5})]
)
def test_greedy_tokens_equal_hugging_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, fields: dict[str, Any]
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(kernel, "device_type", lambda: "cpu")
    model = tiny_model(tmp_path, model_type, **fields)
    reference = Reference(model.directory, model.factor_file)
    with mock.patch.object(kernel, "launch", wraps=kernel.launch) as launch, engine(model) as llm:
        prompts = random_prompts([5, 63, 65, 127, 140], seed=11)
        outputs = tokens(generate(llm, prompts, max_tokens=4))
        assert scheduler(llm).promotions == 2
    assert launch.call_count >= 2 * 8  # layers, steps
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
