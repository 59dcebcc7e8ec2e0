"""Offline tools on a model whose config scales its rotation: they go on from that."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_factors.evaluating.contenders import contenders
from longrope_factors.factor_file import hf, methods, model_directory, schema
from longrope_factors.finetuning import jobs, training
from longrope_factors.models.rotation import rotated_by
from longrope_factors.search.question import Plan, Question, file_of, plan
from longrope_factors.search.run import as_factor_set
from longrope_factors.search.settings import Settings, SpaceSettings
from transformers import AutoModelForCausalLM

from tests.factors import finetuning
from tests.factors.finetuning import LENGTH, ORIGINAL

# Rope parameters, and the max_position_embeddings with which they ship for ORIGINAL tokens.
SCALED: dict[str, tuple[dict[str, Any], int]] = {
    "llama3": (
        {
            **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
            **{"high_freq_factor": 4.0, "original_max_position_embeddings": ORIGINAL // 2},
        },
        ORIGINAL,
    ),
    "yarn": (
        {
            **{"rope_type": "yarn", "factor": 4.0, "beta_fast": 4.0, "attention_factor": 1.25},
            "original_max_position_embeddings": ORIGINAL // 4,
        },
        ORIGINAL,
    ),
    "linear": ({"rope_type": "linear", "factor": 4.0}, ORIGINAL // 4),
}


@pytest.fixture(params=SCALED)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rope, stated = SCALED[request.param]
    directory = finetuning.tiny_model(tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 10000.0, **rope}
    config["max_position_embeddings"] = stated
    (directory / "config.json").write_text(json.dumps(config))
    assert model_directory.identity_of(directory).original_max_position_embeddings == ORIGINAL
    return directory


@torch.inference_mode()
def test_the_original_set_is_the_model_as_it_ships(model: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokens = torch.arange(2, 2 + ORIGINAL)[None]
    as_it_ships = loaded(tokens).logits
    base = model_directory.base_of(model)
    plain = methods.factor_set("original", base.identity, ORIGINAL)
    with rotated_by(loaded, base.factor_set("original", ORIGINAL), base.identity):
        torch.testing.assert_close(loaded(tokens).logits, as_it_ships, atol=1e-4, rtol=1e-4)
    with rotated_by(loaded, plain, base.identity):
        assert (loaded(tokens).logits - as_it_ships).abs().max() > 0.1


def test_methods_that_are_compared_go_on_from_it(model: Path) -> None:
    base = model_directory.base_of(model)
    original, pi = contenders(model, base, ["original", "pi"], [])
    for length in (5, ORIGINAL):
        assert original.factor_set(length).fingerprint == pi.factor_set(length).fingerprint
        assert original.factor_set(length).factors == base.own.factors
    assert pi.factor_set(3 * ORIGINAL).factors == tuple(3 * own for own in base.own.factors)
    assert original.factor_set(3 * ORIGINAL).factors == base.own.factors


def planned(model: Path, **changes: Any) -> Plan:
    corpus = (finetuning.text(model.parent / "text.txt", 400),)
    question = Question(model, length=4 * ORIGINAL, corpus=corpus, dtype="float32", **changes)
    return plan(question, Settings(population=4))


def test_a_search_multiplies_its_factors(model: Path) -> None:
    own = model_directory.base_of(model).own
    search = planned(model)
    assert search.space.base == own.factors
    assert search.space.start_tokens == (0,)
    expected = own.attention_factor * hf.attention_factor(4.0, ORIGINAL)
    assert search.space.attention == (expected, expected)
    pi = as_factor_set(search.seeds["pi"], search, None)
    assert pi.factors == pytest.approx([4 * factor for factor in own.factors])
    # What perplexity_before is about: the model as it ships, at that length.
    plain = as_factor_set(search.plain, search, None)
    assert plain.factors == pytest.approx(own.factors)
    assert plain.attention_factor == own.attention_factor
    written = file_of(pi, search, None)
    model_directory.base_of(model).check(written, "written")
    assert written.sets[0].factors == own.factors
    assert search.settings["base"] == written.sets[0].fingerprint


def test_a_searched_attention_factor_starts_at_the_models_own(model: Path) -> None:
    low, high = planned(model, space=SpaceSettings(attention_factor="search")).space.attention
    own = model_directory.base_of(model).own.attention_factor
    assert low == own
    assert own * 1.2 < high < own * 1.3
    assert planned(model, space=SpaceSettings(attention_factor=1.5)).space.attention == (1.5, 1.5)


def test_fine_tuning_writes_absolute_factors(model: Path, tmp_path: Path) -> None:
    base = model_directory.base_of(model)
    sets = [base.factor_set("original", ORIGINAL), base.factor_set("ntk", 2 * LENGTH)]
    schema.save(schema.build(base.identity, sets), tmp_path / "given.json")
    settings = finetuning.settings(
        tmp_path,
        corpus=(finetuning.text(tmp_path / "a.txt", 300),),
        mixed=0.5,
        steps=1,
        warmup=0,
        separator=None,
    )
    assert jobs.checked(settings).short_set.factors == base.own.factors
    training.run(settings)
    written = json.loads((settings.output / "config.json").read_text())
    assert written["rope_parameters"]["short_factor"] == list(base.own.factors)
    assert written["rope_parameters"]["long_factor"] == list(sets[1].factors)
    assert "low_freq_factor" not in written["rope_parameters"]
    tuned = model_directory.base_of(settings.output)
    assert tuned.own == base.own
    assert tuned.identity.original_max_position_embeddings == ORIGINAL


def test_factors_for_plain_rope_are_refused(model: Path, tmp_path: Path) -> None:
    identity = model_directory.identity_of(model)
    plain = [methods.factor_set("original", identity, ORIGINAL)]
    plain.append(methods.factor_set("ntk", identity, 2 * LENGTH))
    schema.save(schema.build(identity, plain), tmp_path / "given.json")
    settings = finetuning.settings(
        tmp_path, corpus=(finetuning.text(tmp_path / "a.txt", 300),), separator=None
    )
    with pytest.raises(ValueError, match="an original set"):
        jobs.checked(settings)
    with pytest.raises(ValueError, match="an original set"):
        contenders(model, model_directory.base_of(model), [], [tmp_path / "given.json"])
