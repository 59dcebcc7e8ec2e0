"""Configs are read as transformers reads them, and refused in a sentence that names the field."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.factor_file import hf, schema
from longrope_factors.factor_file.errors import FactorFileError

from tests.factors.examples import (
    IDENTITY,
    document,
    llama_config,
    longrope_config,
    model_directory,
    write,
)


def test_identity_of_a_plain_model() -> None:
    assert hf.model_identity(llama_config(), "example") == IDENTITY


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"rope_parameters": None, "rope_theta": 5e5}, "rope_theta", 5e5),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 1e4}, "rope_theta", 1e4),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 1e4}, "rope_theta", 5e5),
        ({"head_dim": 128}, "rotary_dim", 128),
        ({"head_dim": None}, "rotary_dim", 64),
        ({"partial_rotary_factor": 0.75}, "rotary_dim", 48),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "rotary_dim",
            32,
        ),
        ({"head_dim": 256, "qk_rope_head_dim": 32}, "rotary_dim", 32),
        (
            {"original_max_position_embeddings": 4096},
            "original_max_position_embeddings",
            4096,
        ),
        (
            {"rope_parameters": {"rope_theta": 1e4, "original_max_position_embeddings": 2048}},
            "original_max_position_embeddings",
            2048,
        ),
    ],
)
def test_identity_fields(changes: dict[str, Any], field: str, value: float) -> None:
    assert getattr(hf.model_identity(llama_config(**changes)), field) == value


def test_identity_of_a_multi_modal_model() -> None:
    text = llama_config()
    del text["architectures"]
    config = {"architectures": ["SeesAndReads"], "text_config": text, "hidden_size": 7}
    identity = hf.model_identity(config, "example")
    assert identity == IDENTITY.model_copy(update={"architecture": "SeesAndReads"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_parameters": None, "model_type": "hers_own"}, "rope_theta.*hers_own"),
        ({"rope_parameters": {"rope_theta": 0.5}}, "rope_theta"),
        ({"rope_parameters": {"rope_theta": "1e4"}}, "rope_theta"),
        ({"rope_parameters": "default"}, "rope_parameters"),
        ({"rope_parameters": {"full_attention": {}, "sliding_attention": {}}}, "type of layer"),
        ({"architectures": None}, "architectures"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"max_position_embeddings": 8192.5}, "max_position_embeddings"),
        ({"original_max_position_embeddings": 0}, "original_max_position_embeddings"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"partial_rotary_factor": 0.55}, "rotary dimension of 35"),
        ({"partial_rotary_factor": math.nan}, "partial_rotary_factor"),
    ],
)
def test_identity_refusals(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FactorFileError, match=words) as caught:
        hf.model_identity(llama_config(**changes))
    assert "\n" not in str(caught.value)


VARIANTS: dict[str, dict[str, Any]] = {
    "top-level original length": longrope_config(),
    "original length in rope_parameters": longrope_config(
        {"original_max_position_embeddings": 4096, "factor": 32.0},
        original_max_position_embeddings=None,
    ),
    "attention_factor": longrope_config({"attention_factor": 1.25}),
    "factor that disagrees with the window": longrope_config({"factor": 8.0}),
    "partial rotation": longrope_config(
        {"short_factor": [1.0] * 36, "long_factor": [2.0] * 36, "partial_rotary_factor": 0.75}
    ),
    "no extension": longrope_config({"factor": 1.0}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_list_rotates_as_transformers_does(variant: str) -> None:
    import torch
    from longrope_factors.models.reference import angles
    from transformers import Phi3Config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = {key: value for key, value in VARIANTS[variant].items() if value is not None}
    factor_file = hf.two_list(config)
    theirs = Phi3Config(**json.loads(json.dumps(config)))
    assert factor_file == hf.two_list({**theirs.to_dict(), "architectures": ["Phi3ForCausalLM"]})
    assert [factor_set.max_length for factor_set in factor_file.sets] == [4096, 131072]
    for factor_set in factor_file.sets:
        expected, attention_factor = ROPE_INIT_FUNCTIONS["longrope"](
            theirs, torch.device("cpu"), seq_len=factor_set.max_length
        )
        ours = angles([1], factor_set, factor_file.model)[0]
        assert factor_set.attention_factor == attention_factor
        assert ours == pytest.approx(expected.numpy(), rel=1e-5)


def test_two_list_of_the_older_form() -> None:
    config = longrope_config()
    rope = config.pop("rope_parameters")
    older = {
        **config,
        "rope_theta": rope.pop("rope_theta"),
        "rope_scaling": {"type": "su", **rope, "rope_type": None},
    }
    assert hf.is_longrope(older)
    assert hf.two_list(older) == hf.two_list(longrope_config())


def test_two_list_takes_mscale_of_each_set() -> None:
    config = longrope_config({"short_mscale": 1.1, "long_mscale": 1.3, "attention_factor": 2.0})
    assert [factor_set.attention_factor for factor_set in hf.two_list(config).sets] == [1.1, 1.3]
    config = longrope_config({"long_mscale": 1.3, "attention_factor": 2.0})
    assert [factor_set.attention_factor for factor_set in hf.two_list(config).sets] == [2.0, 1.3]


def test_two_list_says_where_it_came_from() -> None:
    provenance = hf.two_list(longrope_config(), "phi").sets[1].provenance
    assert provenance.method == "published"
    assert "config of phi" in provenance.source
    assert hf.two_list(longrope_config()).sets[1].start_tokens == 0


def test_window_no_longer_than_the_original_length() -> None:
    # MiniCPM4 ships like this: two lists, and a window that leaves the long one no length.
    config = longrope_config(max_position_embeddings=4096)
    assert [factor_set.max_length for factor_set in hf.two_list(config).sets] == [4096]
    config = longrope_config({"factor": 4.0}, max_position_embeddings=4096)
    assert [factor_set.max_length for factor_set in hf.two_list(config).sets] == [4096, 16384]


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({"short_factor": [1.0] * 47}, "47 numbers in rope_parameters.short_factor"),
        ({"long_factor": [1.0] * 49}, "49 numbers in rope_parameters.long_factor"),
        ({"long_factor": None}, "rope_parameters.long_factor null"),
        ({"long_factor": [1.0] * 47 + [math.nan]}, r"rope_parameters.long_factor\[47\] NaN"),
        ({"long_factor": [1.0] * 47 + [0]}, r"rope_parameters.long_factor\[47\] 0"),
        ({"long_factor": [1.0] * 47 + [True]}, r"rope_parameters.long_factor\[47\] true"),
        ({"long_factor": [1.0] * 47 + [10**400]}, r"rope_parameters.long_factor\[47\] 1000"),
        ({"factor": "32"}, "rope_parameters.factor"),
        ({"attention_factor": -1.0}, "rope_parameters.attention_factor"),
        ({"long_mscale": 0.0}, "rope_parameters.long_mscale"),
        ({"rope_type": "yarn"}, "rope_type"),
    ],
)
def test_two_list_refusals(rope: dict[str, Any], words: str) -> None:
    with pytest.raises(FactorFileError, match=words) as caught:
        hf.two_list(longrope_config(rope))
    assert "\n" not in str(caught.value)


def test_overrides_make_a_plain_model_longrope(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", document())
    factor_file = schema.load(path)
    overrides = hf.hf_overrides(factor_file, path)
    config = llama_config(**json.loads(json.dumps(overrides)))
    assert hf.is_longrope(config)
    assert hf.model_identity(config, "example") == IDENTITY
    assert hf.from_config(config) == factor_file
    two = hf.two_list(config)
    assert [factor_set.max_length for factor_set in two.sets] == [8192, 32768]
    assert [factor_set.factors for factor_set in two.sets] == [
        factor_file.sets[0].factors,
        factor_file.sets[-1].factors,
    ]
    assert overrides["rope_parameters"]["factor"] == 4.0
    assert Path(overrides["longrope_factors"]).is_absolute()
    assert "partial_rotary_factor" not in overrides["rope_parameters"]


def test_overrides_keep_what_no_factors_change(tmp_path: Path) -> None:
    factor_file = schema.load(write(tmp_path / "x.json", document()))
    kept = {"mrope_section": [8, 4, 4], "mrope_interleaved": True}
    config = llama_config(rope_scaling={"type": "mrope", **kept}, partial_rotary_factor=0.5)
    rope = hf.hf_overrides(factor_file, "x.json", config)["rope_parameters"]
    assert rope == rope | {**kept, "partial_rotary_factor": 0.5, "rope_type": "longrope"}


def test_overrides_stand_where_a_nested_config_has_its_own(tmp_path: Path) -> None:
    factor_file = schema.load(write(tmp_path / "x.json", document()))
    nested = {"architectures": ["LlamaForCausalLM"], "text_config": llama_config()}
    overrides = hf.hf_overrides(factor_file, tmp_path / "x.json", nested)
    assert overrides == {"text_config": hf.hf_overrides(factor_file, tmp_path / "x.json")}
    text = llama_config() | overrides["text_config"]
    assert hf.from_config({**nested, "text_config": text}) == factor_file


def test_from_config_without_a_file_takes_the_two_lists() -> None:
    assert hf.from_config(longrope_config()) == hf.two_list(longrope_config())


def test_from_config_reads_a_relative_path_from_the_base(tmp_path: Path) -> None:
    write(tmp_path / "factors.json", document())
    config = llama_config(longrope_factors="factors.json")
    assert hf.from_config(config, tmp_path).max_length == 32768


def test_from_config_refuses_a_file_of_another_model(tmp_path: Path) -> None:
    write(tmp_path / "factors.json", document())
    config = llama_config(longrope_factors="factors.json", head_dim=128)
    with pytest.raises(FactorFileError, match=r"factors\.json: model\.rotary_dim is 64.* 128"):
        hf.from_config(config, tmp_path)


def test_from_config_refuses_a_path_that_is_none() -> None:
    with pytest.raises(FactorFileError, match="longrope_factors"):
        hf.from_config(llama_config(longrope_factors=3))


def test_read_config(tmp_path: Path) -> None:
    assert hf.read_config(model_directory(tmp_path / "model")) == llama_config()


@pytest.mark.parametrize(
    ("text", "words"), [("[]", "JSON object"), ("{", "not valid JSON"), (None, "No such file")]
)
def test_read_config_refusals(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        write(tmp_path / "config.json", text)
    with pytest.raises(FactorFileError, match=words) as caught:
        hf.read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")


PUBLISHED = Path(__file__).parents[1] / "published"


@pytest.mark.parametrize("name", ["longrope2_llama3_8b_128k", "phi3_mini_128k_2024-07"])
def test_published_two_lists(name: str) -> None:
    published = json.loads((PUBLISHED / f"{name}.json").read_text())
    factor_file = hf.two_list(
        {
            "architectures": ["LlamaForCausalLM"],
            "head_dim": published["head_dim"],
            "max_position_embeddings": published["target_length"],
            "original_max_position_embeddings": published["original_max_position_embeddings"],
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": published["rope_theta"],
                "short_factor": published["short_factor"],
                "long_factor": published["long_factor"],
            },
        },
        published["model"],
    )
    assert factor_file.max_length == 131072
    assert list(factor_file.sets[1].factors) == published["long_factor"]
