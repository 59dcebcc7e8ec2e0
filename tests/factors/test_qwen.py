"""Qwen with YaRN: the shipped factor file, and the configs that people have."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from longrope_factors.cli import app
from longrope_factors.factor_file import hf, schema, shipped
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.models.reference import frequencies
from longrope_factors.search import question
from typer.testing import CliRunner, Result

from tests import published_models as models
from tests.factors.examples import model_directory

QWEN3_YARN = shipped.path("qwen3-yarn")
FITS = {
    "Qwen3-4B": models.QWEN3_4B,
    "Qwen3-8B": models.QWEN3_8B,
    "Qwen3-32B": models.QWEN3_32B,
    "Qwen3-30B-A3B": models.QWEN3_30B_A3B,
    "Qwen3-235B-A22B": models.QWEN3_235B_A22B,
    "Qwen2.5-7B": models.QWEN2_5_7B,
}
THETA = {"rope_theta": 1000000}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make(model: Path, output: Path, *lengths: int) -> list[str | Path]:
    options = [word for length in lengths for word in ("--length", str(length))]
    return ["make", "--model", model, "--method", "yarn", "--truncate", *options, "-o", output]


def yarn(**changes: Any) -> dict[str, Any]:
    """Qwen3-8B's config with YaRN put into it as Qwen's documentation says."""
    return {**models.QWEN3_8B, "rope_scaling": models.YARN, **changes}


def without_dates(path: Path) -> str:
    document = schema.load(path).model_dump(mode="json")
    for factor_set in document["sets"]:
        del factor_set["provenance"]["date"], factor_set["provenance"]["tool_version"]
    return json.dumps(document)


def test_the_command_makes_the_shipped_file_again(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "Qwen3", models.QWEN3_8B)
    made = run(*make(model, tmp_path / "made.json", 32768, 65536, 131072))
    assert made.exit_code == 0, made.stderr
    assert made.stderr == ""
    assert without_dates(tmp_path / "made.json") == without_dates(QWEN3_YARN)


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0])
def test_its_sets_are_transformers_yarn(factor: float) -> None:
    import torch
    from transformers import Qwen3Config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = Qwen3Config(**{**yarn(), "rope_scaling": {**models.YARN, "factor": factor}})
    expected, attention_factor = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
    file = schema.load(QWEN3_YARN)
    chosen = file.sets[file.select(int(32768 * factor))]
    ours = frequencies(file.model) / np.array(chosen.factors)
    assert ours == pytest.approx(expected.double().numpy(), rel=1e-6)
    assert chosen.attention_factor == pytest.approx(attention_factor, rel=1e-12)


@pytest.mark.parametrize("name", FITS)
def test_one_file_fits_all_that_rotate_alike(name: str) -> None:
    base = hf.base(FITS[name], name)
    assert base.identity.original_max_position_embeddings == 32768
    base.load(QWEN3_YARN)
    # As transformers 5 writes the same config.
    rope = {"rope_type": "default", **THETA}
    newer = {**FITS[name], "rope_parameters": rope, "rope_theta": None, "rope_scaling": None}
    assert hf.base(newer, name) == base


def test_other_qwens_are_refused() -> None:
    with pytest.raises(FactorFileError, match=r'"Qwen3-4B-2507" has 5000000\.0'):
        hf.base(models.QWEN3_4B_2507, "Qwen3-4B-2507").load(QWEN3_YARN)
    with pytest.raises(FactorFileError, match=r"dual_chunk_attention_config.* to 262144, and"):
        hf.base(models.QWEN2_5_7B_1M)
    with pytest.raises(FactorFileError, match=r"rotary_dim is 128.* has 64"):
        hf.base(models.QWEN3_5_9B, "Qwen3.5-9B").load(QWEN3_YARN)


def test_the_trained_window_can_be_said_otherwise() -> None:
    config = {**models.QWEN3_8B, "original_max_position_embeddings": 40960}
    assert hf.model_identity(config).original_max_position_embeddings == 40960
    other = {**models.QWEN3_8B, "max_position_embeddings": 65536}
    assert hf.model_identity(other).original_max_position_embeddings == 65536


@pytest.mark.parametrize("stated", [32768, 40960, 131072])
@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_a_config_with_the_same_yarn_takes_the_file(stated: int, factor: float) -> None:
    """Its YaRN is one of the file's sets, and is replaced, not put on top of it."""
    rope = {**models.YARN, "factor": factor}
    older = yarn(rope_scaling=rope, max_position_embeddings=stated)
    newer = {**older, "rope_scaling": None, "rope_parameters": {**rope, **THETA}}
    for config in (older, newer, {**newer, "rope_theta": None}):
        base = hf.base(config, "Qwen3-8B")
        window = base.identity.original_max_position_embeddings
        assert window == max(stated, int(32768 * factor))
        if window != 32768 * factor:
            assert factor == 2.0  # beside max_position_embeddings 131072: set 131072 has factor 4
            with pytest.raises(FactorFileError, match="original_max_position_embeddings is 32768"):
                base.load(QWEN3_YARN)
            continue
        file = base.load(QWEN3_YARN)
        assert base.replaces_scaling(file)
        rope_parameters = hf.hf_overrides(file, QWEN3_YARN)["rope_parameters"]
        assert rope_parameters["short_factor"] == [1.0] * 64
        assert "beta_fast" not in rope_parameters


def test_a_search_that_keeps_the_file_fits_the_model_with_its_yarn_and_without() -> None:
    rope = {**models.YARN, "factor": 4.0}
    scaled = hf.base(yarn(rope_scaling=rope, max_position_embeddings=40960), "Qwen3-8B")
    set_ = scaled.factor_set("ntk", 262_144)
    searched = set_.provenance.model_copy(update={"method": "longrope"})
    found = set_.model_copy(update={"provenance": searched})
    plan = SimpleNamespace(identity=scaled.identity, base=scaled)
    file = question.file_of(found, plan, scaled.load(QWEN3_YARN))  # type: ignore[arg-type]
    assert [factor_set.max_length for factor_set in file.sets] == [32768, 65536, 131_072, 262_144]
    scaled.check(file, "found.json")
    assert scaled.unscaled is not None
    scaled.unscaled.check(file, "found.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"factor": 3.0},
        {"beta_fast": 24},
        {"truncate": False},
        {"attention_factor": 1.0},
        {"finetuned": True},
    ],
)
def test_another_yarn_is_refused_with_what_to_do(changes: dict[str, Any]) -> None:
    base = hf.base(yarn(rope_scaling={**models.YARN, **changes}), "Qwen3-8B")
    with pytest.raises(FactorFileError) as caught:
        base.load(QWEN3_YARN)
    message = str(caught.value)
    assert 'scales its rotation already (rope_type "yarn" in rope_scaling)' in message
    assert "remove rope_type and its fields from rope_scaling" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0},
        {
            **{"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0},
            **{"high_freq_factor": 4.0, "original_max_position_embeddings": 32768},
        },
        {"type": "dynamic", "factor": 4.0},
        {"type": "yarn", "factor": 4.0},
    ],
)
def test_other_scalings_are_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(FactorFileError, match="remove rope_type and its fields from"):
        hf.base(yarn(rope_scaling=rope), "Qwen3-8B").load(QWEN3_YARN)


def test_make_says_that_it_goes_on_from_yarn(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "model", yarn())
    made = run(*make(model, tmp_path / "made.json", 131072, 262144))
    assert made.exit_code == 0
    assert "go on from the model's own rotation up to 131072 tokens" in made.stderr
    assert 'scales its rotation already (rope_type "yarn" in rope_scaling)' in made.stderr
    refused = run(*make(model, tmp_path / "made.json", 32768, 131072))
    assert refused.exit_code == 2
    assert "at least the original length, 131072, because" in refused.stderr
    assert "for the plain rotation, remove rope_type" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_truncating_is_about_yarn(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "model", models.QWEN3_8B)
    words = ["make", "--model", model, "--method", "pi", "--truncate", "--length", "65536"]
    refused = run(*words, "-o", tmp_path / "made.json")
    assert refused.exit_code == 2
    assert "--truncate is about yarn's ramp" in refused.stderr


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn"])
def test_an_analytic_set_alone_shows_for_which_rotation_it_was_made(
    method: schema.Method,
) -> None:
    """Without an original set beside it, nothing else in the file tells."""
    scaled = hf.base(yarn(rope_scaling={**models.YARN, "finetuned": True}))
    plain = hf.base({**models.QWEN3_8B, "original_max_position_embeddings": 131072})
    bases = (scaled, plain)
    assert scaled.identity == plain.identity
    for base, other in (bases, bases[::-1]):
        base.check(file_of(base, method), "x.json")
        with pytest.raises(FactorFileError, match=rf"a set by {method}: factors\["):
            other.check(file_of(base, method), "x.json")


def file_of(base: Base, method: schema.Method) -> schema.FactorFile:
    return schema.build(base.identity, [base.factor_set(method, 262144)])
