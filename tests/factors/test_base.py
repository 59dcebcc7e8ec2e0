"""A model whose config scales its rotation already: that rotation is its original set."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_factors.cli import app
from longrope_factors.factor_file import hf, methods, schema
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.formats.two_lists import hf_config
from longrope_factors.models.reference import frequencies
from typer.testing import CliRunner, Result

from tests.factors.examples import document, llama_config, longrope_config, model_directory, write

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32768,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
SCALED: dict[str, tuple[dict[str, Any], int, int]] = {
    # rope parameters, max_position_embeddings, the window that the model ships with
    "llama3.1": (LLAMA3, 131072, 131072),
    "llama3.2": ({**LLAMA3, "factor": 32.0}, 131072, 131072),
    "llama3, other frequencies": (
        {**LLAMA3, "low_freq_factor": 0.125, "high_freq_factor": 0.5, "factor": 32.0},
        16384,
        16384,
    ),
    "linear": (LINEAR, 4096, 16384),
    "linear 2.5": ({**LINEAR, "factor": 2.5}, 4096, 10240),
    "linear 16": ({**LINEAR, "factor": 16}, 2048, 32768),
    "yarn after scaling": (YARN, 131072, 131072),
    "yarn before scaling": (YARN, 32768, 131072),
    "yarn with room": (YARN, 40960, 131072),
    "yarn of a longer window": (YARN, 262144, 262144),
    "yarn without original length": (
        {key: value for key, value in YARN.items() if "original" not in key},
        32768,
        131072,
    ),
    "yarn, not truncated": ({**YARN, "truncate": False}, 131072, 131072),
    "yarn, other betas": ({**YARN, "beta_fast": 24, "beta_slow": 2.0}, 131072, 131072),
    "yarn with attention factor": ({**YARN, "attention_factor": 1.5}, 131072, 131072),
    "yarn with mscales": ({**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}, 131072, 131072),
    "yarn with one mscale": ({**YARN, "mscale": 0.7}, 131072, 131072),
    "yarn without factor": ({**YARN, "factor": None}, 65536, 65536),
    "yarn of a part": ({**YARN, "partial_rotary_factor": 0.5}, 131072, 131072),
}


def scaled(rope: dict[str, Any], window: int, **changes: Any) -> dict[str, Any]:
    return llama_config(
        rope_parameters=rope,
        max_position_embeddings=window,
        hidden_size=2048,
        num_attention_heads=16,
        **changes,
    )


@pytest.mark.parametrize("name", SCALED)
def test_own_rotation_is_transformers(name: str) -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, stated, window = SCALED[name]
    config = scaled(rope, stated)
    base = hf.base(config, "example")
    theirs = LlamaConfig(**json.loads(json.dumps(config)))
    expected, attention = ROPE_INIT_FUNCTIONS[rope["rope_type"]](theirs, torch.device("cpu"))
    ours = frequencies(base.identity) / np.array(base.own.factors)
    assert ours == pytest.approx(expected.double().numpy(), rel=1e-6)
    assert base.own.attention_factor == pytest.approx(attention, rel=1e-12)
    assert base.identity.original_max_position_embeddings == window
    assert not base.is_plain
    # What transformers makes of the config, and what older configs say, is the same base.
    assert hf.base({**theirs.to_dict(), "architectures": ["LlamaForCausalLM"]}, "example") == base
    older = {"type": rope["rope_type"], **rope}
    del older["rope_type"]
    theta = older.pop("rope_theta")
    old = {**config, "rope_parameters": None, "rope_scaling": older, "rope_theta": theta}
    assert hf.base(old, "example") == base


def test_an_architecture_may_be_scaled_without_a_word() -> None:
    import torch
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    for model_type in ("gpt_oss", "apertus", "cwm"):
        base = hf.base({"model_type": model_type, "architectures": ["X"]})
        theirs = AutoConfig.for_model(model_type)
        rope_type = theirs.rope_parameters["rope_type"]
        expected, attention = ROPE_INIT_FUNCTIONS[rope_type](theirs, torch.device("cpu"))
        ours = frequencies(base.identity) / np.array(base.own.factors)
        assert ours == pytest.approx(expected.double().numpy(), rel=1e-6)
        assert base.own.attention_factor == pytest.approx(attention, rel=1e-12)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (llama_config(rope_scaling={"type": "dynamic", "factor": 2.0}), "dynamic.*rope_scaling"),
        (llama_config(rope_parameters={"rope_type": "proportional"}), "proportional"),
        (llama_config(rope_parameters={"rope_type": "ntk-by-parts"}), "ntk-by-parts"),
        (llama_config(rope_scaling={"type": "xdrope", "xdrope_section": [8] * 4}), "xdrope"),
        (scaled({**YARN, "xdrope_section": [8] * 4}, 32768), "xdrope_section"),
        (scaled({**YARN, "llama_4_scaling_beta": 0.1}, 32768), "llama_4_scaling_beta"),
        (scaled({**LLAMA3, "attn_factor": 2.0}, 32768), "attn_factor"),
        (scaled({**YARN, "mscale_all_dim": 1.0}, 32768, qk_rope_head_dim=64), "latent attention"),
        (scaled({**YARN, "factor": "4"}, 32768), "rope_parameters.factor"),
        (scaled({**LINEAR, "factor": 0}, 32768), "rope_parameters.factor 0"),
        (scaled({**LINEAR, "factor": 1e9}, 32768), "rope_parameters.factor"),
        (scaled({**LLAMA3, "low_freq_factor": 4.0}, 32768), "low_freq_factor 4"),
        (scaled({**LLAMA3, "high_freq_factor": None}, 32768), "high_freq_factor"),
        (scaled({**YARN, "truncate": "no"}, 32768), "truncate"),
        (scaled({**YARN, "attention_factor": -1.0}, 32768), "attention factor"),
    ],
)
def test_what_is_no_vector_of_factors_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(FactorFileError, match=words) as caught:
        hf.base(config)
    assert "\n" not in str(caught.value)


junk = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1,
        5e-324,
        1e-9,
        1e308,
        -2.5,
        math.nan,
        math.inf,
        2**31,
        10**400,
        "4",
        [],
        {},
    ]
)
FIELDS = [*LLAMA3, "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"]


@given(
    st.sampled_from([LLAMA3, YARN, LINEAR]),
    st.dictionaries(st.sampled_from([*FIELDS, "partial_rotary_factor"]), junk, max_size=3),
    st.dictionaries(
        st.sampled_from(
            ["max_position_embeddings", "head_dim", "hidden_size", "architectures", "model_type"]
        ),
        junk,
        max_size=2,
    ),
)
def test_any_config_is_a_base_or_a_sentence(
    rope: dict[str, Any], in_rope: dict[str, Any], beside: dict[str, Any]
) -> None:
    try:
        base = hf.base(scaled({**rope, **in_rope}, 131072) | beside)
    except FactorFileError:
        return
    window = base.identity.original_max_position_embeddings
    schema.build(base.identity, [base.factor_set("original", window)])


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("name", ["llama3.1", "linear", "yarn before scaling"])
def test_made_factors_go_on_from_the_models_own(name: str, tmp_path: Path) -> None:
    rope, stated, window = SCALED[name]
    config = scaled(rope, stated)
    model = model_directory(tmp_path / "model", config)
    file = tmp_path / "made.json"
    lengths = [str(window), str(2 * window)]
    options = [word for length in lengths for word in ("--length", length)]
    made = run("make", "--model", model, "--method", "yarn", *options, "-o", file)
    assert made.exit_code == 0, made.stderr
    base = hf.base(config)
    first, second = schema.load(file).sets
    assert first.provenance.method == "original"
    assert (first.factors, first.attention_factor) == base.own
    on_top = methods.yarn(base.identity, 2.0)
    own = base.own
    assert second.factors == tuple(a * b for a, b in zip(on_top.factors, own.factors, strict=True))
    assert second.attention_factor == on_top.attention_factor * own.attention_factor

    assert run("validate", file, "--model", model).exit_code == 0
    printed = run("overrides", file, "--model", model)
    assert json.loads(printed.stdout)["rope_parameters"]["short_factor"] == list(first.factors)
    shorter = ("make", "--model", model, "--method", "pi", "--length", str(window - 1))
    assert f"at least the original length, {window}" in refused(*shorter, "-o", file)
    # A Hugging Face config of it says absolute factors, and nothing of the old scaling.
    exported, _ = hf_config(config, schema.load(file))
    two = hf.two_list(exported)
    assert [factor_set.factors for factor_set in two.sets] == [first.factors, second.factors]
    assert [factor_set.attention_factor for factor_set in two.sets] == [
        first.attention_factor,
        second.attention_factor,
    ]
    assert hf.base(exported).own == own


@pytest.mark.parametrize("name", ["llama3.1", "linear", "yarn before scaling"])
@pytest.mark.parametrize("command", ["validate", "overrides"])
def test_a_file_for_plain_rope_is_refused(name: str, command: str, tmp_path: Path) -> None:
    rope, stated, window = SCALED[name]
    model = model_directory(tmp_path / "model", scaled(rope, stated))
    plain = scaled({"rope_type": "default", "rope_theta": rope["rope_theta"]}, window)
    for factors_of, served in ((plain, model), (scaled(rope, stated), None)):
        base = hf.base(factors_of, "model")
        file = tmp_path / "file.json"
        schema.save(schema.build(base.identity, [base.factor_set("original", window)]), file)
        if served is None:
            served = model_directory(tmp_path / "plain", plain)
        message = refused(command, file, "--model", served)
        assert "an original set: factors[" in message
        assert "own rotation has" in message


def test_the_attention_factor_alone_may_differ(tmp_path: Path) -> None:
    config = scaled({**YARN, "factor": 1.0, "attention_factor": 1.25}, 32768)
    base = hf.base(config, "model")
    assert set(base.own.factors) == {1.0}
    plain = Base(base.identity, methods.original(base.identity, 1.0))
    factor_file = schema.build(base.identity, [plain.factor_set("original", 32768)])
    with pytest.raises(FactorFileError, match=r"attention_factor is 1, but .* has 1\.25"):
        base.check(factor_file, "x.json")
    starting = base.factor_set("original", 32768).model_copy(update={"start_tokens": 4})
    factor_file = schema.build(base.identity, [starting])
    with pytest.raises(FactorFileError, match="start_tokens is 4; it should be 0"):
        base.check(factor_file, "x.json")


def test_a_longrope_models_original_set_is_its_short_list(tmp_path: Path) -> None:
    base = hf.base(longrope_config(), "phi")
    plain = Base(base.identity, methods.original(base.identity, 1.0))
    for right, factors_of in ((True, base), (False, plain)):
        sets = [factors_of.factor_set("original", 4096)]
        schema.save(schema.build(base.identity, sets), tmp_path / "x.json")
        if right:
            base.load(tmp_path / "x.json")
        else:
            with pytest.raises(FactorFileError, match=r"factors\[1\] is 1, but .* has 1.01"):
                base.load(tmp_path / "x.json")


def test_a_named_file_says_a_longrope_models_own_rotation(tmp_path: Path) -> None:
    write(tmp_path / "factors.json", document())
    overrides = hf.hf_overrides(schema.load(tmp_path / "factors.json"), tmp_path / "factors.json")
    config = llama_config(**{**overrides, "longrope_factors": "factors.json"})
    base = hf.base(config, "example", tmp_path)
    assert base.is_plain
    base.load(tmp_path / "factors.json")


def test_factors_beyond_the_formats_bounds_are_a_sentence() -> None:
    identity = hf.model_identity(llama_config())
    base = Base(identity, methods.pi(identity, 1e12))
    with pytest.raises(FactorFileError, match=r"pi to 16384 tokens: factors\[0\] is 2"):
        base.factor_set("pi", 16384)
