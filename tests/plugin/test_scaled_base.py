"""A model that ships with a scaled rotation: its own for short requests, extended for long ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.factor_file import hf, model_directory, schema
from longrope_server.serve.command import compose

from tests.plugin.engine import engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import Reference

WINDOW = 64
# max_position_embeddings and rope parameters of models that ship for 64 tokens.
SHIPPED: dict[str, tuple[int, dict[str, Any]]] = {
    "llama3": (
        64,
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "yarn": (
        64,
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "beta_fast": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "linear": (16, {"rope_type": "linear", "factor": 4.0}),
}


@pytest.mark.parametrize("rope_type", SHIPPED)
def test_short_requests_as_it_ships_and_long_ones_extended(rope_type: str, tmp_path: Path) -> None:
    model, overrides = shipped(tmp_path, rope_type)
    short = random_prompts([5, 30, 52], seed=3)
    long = random_prompts([60, 100, 150], seed=4)
    with engine(model, hf_overrides=overrides) as llm:
        outputs = tokens(generate(llm, short + long, max_tokens=12))
        assert scheduler(llm).promotions == 1  # 60 + 12
    as_it_ships = Reference(model.directory, model.factor_file, native=True)
    for prompt, output in zip(short, outputs, strict=False):
        as_it_ships.expect(prompt, output)
    extended = Reference(model.directory, model.factor_file)
    for prompt, output in zip(short + long, outputs, strict=True):
        extended.expect(prompt, output)
    # What would be served by plain RoPE under the same name is another model.
    (prompt,) = random_prompts([60], seed=5)
    plain_sets = [
        factor_set.model_copy(update={"factors": (1.0,) * 16, "attention_factor": 1.0})
        for factor_set in model.factor_file.sets
    ]
    plain = Reference(model.directory, schema.build(model.factor_file.model, plain_sets))
    own, other = (reference.logits(prompt, 0, 40).argmax(-1) for reference in (extended, plain))
    assert (own != other).sum() > 10


def shipped(directory: Path, rope_type: str) -> tuple[TinyModel, dict[str, Any]]:
    """A model whose config scales its rotation, a made factor file, and what vLLM is told."""
    tiny_model(directory, limits=(WINDOW,))
    stated, rope = SHIPPED[rope_type]
    path = directory / "config.json"
    config = json.loads(path.read_text())
    for name in ("longrope_factors", "rope_parameters", "original_max_position_embeddings"):
        config.pop(name, None)
    # One of them as releases before transformers 5 wrote it.
    form = "rope_scaling" if rope_type == "yarn" else "rope_parameters"
    config |= {"max_position_embeddings": stated, "rope_theta": 10000.0, form: rope}
    path.write_text(json.dumps(config))
    base = model_directory.base_of(directory)
    assert base.identity.original_max_position_embeddings == WINDOW
    made = [("original", WINDOW), ("yarn", 2 * WINDOW), ("ntk", 4 * WINDOW)]
    factor_file = schema.build(
        base.identity, [base.factor_set(method, length) for method, length in made]
    )
    file = directory / "made.json"
    schema.save(factor_file, file)
    words = compose([str(directory), "--factors", str(file)]).words
    overrides = json.loads(words[words.index("--hf-overrides") + 1])
    assert hf.is_longrope({**config, "rope_scaling": None, **overrides})
    return TinyModel(directory, factor_file), overrides
