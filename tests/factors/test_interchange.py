"""Exported Hugging Face configs rotate as our file does; round trips lose only what is named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_factors.factor_file import hf, schema
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity, Provenance
from longrope_factors.formats.command import export, import_
from longrope_factors.formats.two_lists import authors_attention_factor, hf_config, two_sets
from longrope_factors.models.rotation import rotated_by
from transformers import PhimoeConfig
from typer.testing import CliRunner, Result

from tests.factors.examples import (
    document,
    llama_config,
    longrope_config,
    model_directory,
    provenance,
    write,
)

app = typer.Typer()
app.command()(export)
app.command("import")(import_)


def run(*arguments: str | Path | float) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path | float) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


def config_of(identity: ModelIdentity, **changes: Any) -> dict[str, Any]:
    """A plain config of the model that `identity` describes."""
    return llama_config(
        head_dim=identity.rotary_dim,
        max_position_embeddings=identity.original_max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": identity.rope_theta},
        **changes,
    )


positive = st.floats(min_value=1e-3, max_value=1e6)


@st.composite
def factor_files(draw: st.DrawFn, start_tokens: int = 300, exact: bool = False) -> FactorFile:
    """Any file of up to four sets; `exact`: two, the first of which ends at the original length."""
    identity = ModelIdentity(
        name="any",
        architecture="LlamaForCausalLM",
        rotary_dim=2 * draw(st.integers(1, 6)),
        rope_theta=draw(st.floats(min_value=1.1, max_value=1e7)),
        original_max_position_embeddings=draw(st.integers(2, 10**6)),
    )
    original = identity.original_max_position_embeddings
    if exact:
        lengths = {original, draw(st.integers(original + 1, 2**31 - 1))}
    else:
        lengths = draw(st.sets(st.integers(1, 2**31 - 1), min_size=1, max_size=4))
    pairs = identity.rotary_dim // 2
    sets = [
        FactorSet(
            max_length=length,
            factors=tuple(draw(st.lists(positive, min_size=pairs, max_size=pairs))),
            start_tokens=draw(st.integers(0, start_tokens)),
            attention_factor=draw(
                st.one_of(
                    st.floats(min_value=1e-3, max_value=1e3),
                    st.just(authors_attention_factor(max(lengths), original)),
                )
            ),
            provenance=Provenance.model_validate(provenance("longrope")),
        )
        for length in sorted(lengths)
    ]
    return schema.build(identity, sets)


def rotations(factor_file: FactorFile) -> list[tuple[int, str]]:
    return [(factor_set.max_length, factor_set.fingerprint) for factor_set in factor_file.sets]


@settings(deadline=None)
@given(factor_files(start_tokens=0, exact=True))
def test_two_sets_come_back_as_they_were(factor_file: FactorFile) -> None:
    config, lost = hf_config(config_of(factor_file.model), factor_file)
    again = hf.two_list(json.loads(json.dumps(config)), "any")
    assert rotations(again) == rotations(factor_file)
    assert again.model == factor_file.model
    assert all(
        "provenance" in sentence or "transformers knows one" in sentence for sentence in lost
    )


@settings(deadline=None)
@given(factor_files())
def test_what_does_not_come_back_is_named(factor_file: FactorFile) -> None:
    config, lost = hf_config(config_of(factor_file.model), factor_file)
    again = hf.two_list(json.loads(json.dumps(config)), "any")
    short_set, long_set = two_sets(factor_file)
    for ours, theirs in ((short_set, again.sets[0]), (long_set, again.sets[-1])):
        assert theirs.factors == ours.factors
        assert theirs.attention_factor == ours.attention_factor
    said = "\n".join(lost)
    if rotations(again) == rotations(factor_file):
        return
    original = factor_file.model.original_max_position_embeddings
    for factor_set in factor_file.sets:
        if factor_set not in (short_set, long_set):
            assert str(factor_set.max_length) in said
        elif factor_set.start_tokens:
            assert (
                f"the first {factor_set.start_tokens} of the set of {factor_set.max_length}" in said
            )
    if short_set.max_length != original:
        assert f"the original length, {original}" in said


@pytest.mark.parametrize(
    "config",
    [
        longrope_config(),
        longrope_config({"attention_factor": 1.25}),
        longrope_config({"short_mscale": 1.1, "long_mscale": 1.3}),
        longrope_config({"factor": 8.0}),
        longrope_config(max_position_embeddings=4096),
        longrope_config(
            {"short_factor": [1.0] * 36, "long_factor": [2.0] * 36}, partial_rotary_factor=0.75
        ),
    ],
)
def test_a_config_comes_back_as_it_was(config: dict[str, Any]) -> None:
    factor_file = hf.two_list(config, "phi")
    exported, _ = hf_config(config, factor_file)
    assert hf.two_list(exported, "phi") == factor_file
    assert hf_config(exported, factor_file)[0] == exported


def test_vllm_is_told_only_what_it_would_not_compute() -> None:
    config = longrope_config()
    rope = hf_config(config, hf.two_list(config))[0]["rope_parameters"]
    assert "short_mscale" not in rope
    assert rope["attention_factor"] == math.sqrt(1 + math.log(32) / math.log(4096))
    config = longrope_config({"attention_factor": 1.25})
    rope = hf_config(config, hf.two_list(config))[0]["rope_parameters"]
    assert (rope["short_mscale"], rope["long_mscale"]) == (1.25, 1.25)


@pytest.mark.parametrize("architecture", ["PhiMoEForCausalLM", "PhimoeForCausalLM"])
def test_a_phi_moe_is_always_told(architecture: str) -> None:
    config = longrope_config(architectures=[architecture], model_type="phimoe", head_dim=96)
    exported, _ = hf_config(config, hf.two_list(config))
    rope = exported["rope_parameters"]
    assert rope["short_mscale"] == rope["long_mscale"] == rope["attention_factor"]
    PhimoeConfig(**exported)  # refuses a longrope without them


def test_older_and_own_fields_do_not_stay(tmp_path: Path) -> None:
    factor_file = schema.load(write(tmp_path / "x.json", document()))
    older = llama_config(
        rope_parameters=None,
        rope_theta=1e5,
        rope_scaling={"type": "default"},
        longrope_factors="x.json",
    )
    config, _ = hf_config(older, factor_file)
    assert hf.from_config(config) == hf.two_list(config)
    nested, _ = hf_config(
        {"architectures": older["architectures"], "text_config": older}, factor_file
    )
    assert hf.two_list(nested) == hf.two_list(config)


def tiny_llama(folder: Path) -> tuple[Any, FactorFile]:
    """A random Llama in `folder`, and two sets far from one another for its 32 and 96 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    identity = hf.model_identity(hf.read_config(folder), "tiny")
    sets = [
        FactorSet(
            max_length=length,
            factors=tuple(1.0 + ratio * pair / 8 for pair in range(8)),
            start_tokens=0,
            attention_factor=1.2,
            provenance=Provenance.model_validate(provenance("longrope")),
        )
        for length, ratio in ((32, 0.5), (96, 4.0))
    ]
    return model, schema.build(identity, sets)


@torch.inference_mode()
def test_transformers_gives_our_logits_on_both_sides(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    ours, factor_file = tiny_llama(tmp_path / "model")
    schema.save(factor_file, tmp_path / "factors.json")
    result = run(
        "export", tmp_path / "factors.json", "--to", "hf", "--model", tmp_path / "model",
        "-o", tmp_path / "model",
    )  # fmt: skip
    assert result.exit_code == 0
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    for length, index in ((32, 0), (33, 1), (96, 1), (5, 0)):
        ids = torch.randint(64, (1, length))
        logits = theirs(ids).logits
        with rotated_by(ours, factor_file.sets[index], factor_file.model):
            assert torch.allclose(ours(ids).logits, logits, rtol=1e-3, atol=1e-3)
        with rotated_by(ours, factor_file.sets[1 - index], factor_file.model):
            assert not torch.allclose(ours(ids).logits, logits, rtol=1e-1, atol=1e-1)


@pytest.mark.parametrize("share", [1.0, 0.75])
def test_phi_rotates_in_transformers_as_our_file(share: float) -> None:
    from longrope_factors.models.reference import angles
    from transformers import Phi3Config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    pairs = int(48 * share)
    config = longrope_config(
        {"short_factor": [1.1] * pairs, "long_factor": [5.0] * pairs, "attention_factor": 1.3},
        partial_rotary_factor=share,
    )
    factor_file = hf.two_list(config)
    exported = Phi3Config(**hf_config(config, factor_file)[0])
    for factor_set in factor_file.sets:
        found, attention_factor = ROPE_INIT_FUNCTIONS["longrope"](
            exported, torch.device("cpu"), seq_len=factor_set.max_length
        )
        assert attention_factor == factor_set.attention_factor
        expected = angles([1], factor_set, factor_file.model)[0]
        assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_export_says_what_is_lost(tmp_path: Path) -> None:
    content = document()
    content["sets"][2]["start_tokens"] = 16
    content["sets"][2]["attention_factor"] = 1.5
    file = write(tmp_path / "x.json", content)
    model = model_directory(tmp_path / "model")
    result = run("export", file, "--to", "hf", "--model", model, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "out" / "config.json")
    for words in (
        "two sets: of max_length 16384 none is left",
        "no start tokens: the first 16 of the set of 32768",
        "provenance",
        "one attention factor, the long list's 1.5",
    ):
        assert words in result.stderr
    again = tmp_path / "again.json"
    assert run("import", tmp_path / "out", "--from", "hf", "-o", again).exit_code == 0
    imported = schema.load(again)
    assert [factor_set.max_length for factor_set in imported.sets] == [8192, 32768]
    assert [factor_set.attention_factor for factor_set in imported.sets] == [1.0, 1.5]


def test_export_takes_another_long_set(tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", document())
    model = model_directory(tmp_path / "model")
    export_long = ("export", file, "--to", "hf", "--model", model, "-o", tmp_path / "out")
    assert run(*export_long, "--length", 9000).exit_code == 0
    assert hf.two_list(hf.read_config(tmp_path / "out")).max_length == 16384
    assert "longer than 32768" in refused(*export_long, "--length", 40000)


def test_refusals(tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", document())
    other = model_directory(tmp_path / "other", llama_config(head_dim=128))
    out = tmp_path / "out"
    assert "--model DIR" in refused("export", file, "--to", "hf", "-o", out)
    assert "--model DIR" in refused("export", file, "--to", "csv", "--model", other, "-o", out)
    assert "--gguf" in refused("export", file, "--to", "csv", "--gguf", file, "-o", out)
    words = refused("export", file, "--to", "hf", "--model", other, "-o", out)
    assert "rotary_dim is 64" in words
    assert not out.exists()
    assert 'rope_type "default"' in refused("import", other, "--from", "hf", "-o", out)
    assert "one directory" in refused("import", other, "--from", "hf", "--model", other, "-o", out)
    blocked = ("export", file, "--to", "hf", "--model", model_directory(tmp_path / "m"))
    assert "cannot be written" in refused(*blocked, "-o", write(tmp_path / "file", ""))


def test_another_models_factors_are_refused(tmp_path: Path) -> None:
    factor_file = schema.load(write(tmp_path / "x.json", document()))
    with pytest.raises(FactorFileError, match=r"factors of example.*rotary_dim is 64.* 128"):
        hf_config(llama_config(head_dim=128), factor_file)
