"""The command line that vLLM is given."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from longrope_factors.factor_file import hf, schema
from longrope_factors.factor_file.errors import FactorFileError
from longrope_server.errors import UsageError
from longrope_server.serve import embedded, environment
from longrope_server.serve.command import compose

from tests import published_models
from tests.server import models

DRAIN = ("--shutdown-timeout", "45")


def value_of(flag: str, words: list[str]) -> str:
    return words[words.index(flag) + 1]


def test_a_factor_file_becomes_overrides_and_a_length(model: Path, factors: Path) -> None:
    words = compose([str(model), "--factors", str(factors), "--port", "9"]).words
    assert words[0] == str(model)
    assert words[-2:] == ["--port", "9"]
    assert value_of("--max-model-len", words) == "512"
    overrides = json.loads(value_of("--hf-overrides", words))
    assert overrides["longrope_factors"] == str(factors)
    assert overrides["rope_parameters"]["rope_type"] == "longrope"
    assert "--additional-config" not in words
    assert "--factors" not in words


def test_a_relative_factor_file_is_handed_over_absolute(
    model: Path, factors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(factors.parent)
    words = compose([str(model), "--factors", factors.name]).words
    assert json.loads(value_of("--hf-overrides", words))["longrope_factors"] == str(factors)


def test_the_users_overrides_are_merged(model: Path, factors: Path) -> None:
    words = compose(
        [str(model), "--factors", str(factors), "--hf-overrides", '{"x": {"y": 1}}']
    ).words
    assert words.count("--hf-overrides") == 1
    overrides = json.loads(value_of("--hf-overrides", words))
    assert overrides["x"] == {"y": 1}
    assert overrides["max_position_embeddings"] == 512


def test_names_that_no_file_can_have_are_sentences(model: Path) -> None:
    with pytest.raises(UsageError, match="xxx is neither a directory here nor a name on the hub"):
        compose(["x" * 300])
    with pytest.raises(FactorFileError, match="xxx: cannot be read: File name too long"):
        compose([str(model), "--factors", "x" * 300])


def test_an_override_against_the_factor_file_is_refused(model: Path, factors: Path) -> None:
    given = '{"rope_parameters": {"attention_factor": 3.0}}'
    with pytest.raises(UsageError, match=r"rope_parameters\.attention_factor to another value"):
        compose([str(model), "--factors", str(factors), "--hf-overrides", given])


@pytest.mark.parametrize("length", ["513", "1K", "1k"])
def test_a_length_above_the_largest_set_is_refused(model: Path, factors: Path, length: str) -> None:
    with pytest.raises(UsageError, match="covers 512 tokens"):
        compose([str(model), "--factors", str(factors), f"--max_model_len={length}"])


@pytest.mark.parametrize("length", ["512", "100", "auto"])
def test_a_length_within_the_largest_set_is_kept(model: Path, factors: Path, length: str) -> None:
    words = compose([str(model), "--factors", str(factors), "--max-model-len", length]).words
    assert words.count("--max-model-len") == 1
    assert value_of("--max-model-len", words) == length


def test_the_selection_goes_into_the_additional_config(model: Path, factors: Path) -> None:
    words = compose(
        [str(model), "--factors", str(factors), "--selection=reserve", "--additional-config.x=1"]
    ).words
    assert json.loads(value_of("--additional-config", words)) == {
        "x": 1,
        "longrope_selection": "reserve",
    }


def test_two_selections_are_refused(model: Path, factors: Path) -> None:
    words = ["--selection=reserve", "--additional-config.longrope_selection=length"]
    with pytest.raises(UsageError, match="longrope_selection to another value"):
        compose([str(model), "--factors", str(factors), *words])


def test_an_unknown_selection_is_refused(model: Path, factors: Path) -> None:
    with pytest.raises(UsageError, match="one of length, reserve"):
        compose([str(model), "--factors", str(factors), "--selection", "longest"])


def test_a_longrope_model_is_served_from_its_own_lists(longrope_model: Path) -> None:
    command = compose([str(longrope_model)])
    assert command.words == [str(longrope_model), *DRAIN, "--max-model-len", "256"]
    assert "up to 64, 256 tokens" in command.notes[0]


def test_a_factor_file_takes_the_place_of_a_models_own_lists(
    longrope_model: Path, factors: Path
) -> None:
    words = compose([str(longrope_model), "--factors", str(factors)]).words
    assert value_of("--max-model-len", words) == "512"


def test_a_factor_file_that_the_models_config_names_is_used(
    longrope_model: Path, factors: Path
) -> None:
    (longrope_model / "factors.json").write_text(factors.read_text())
    config = json.loads((longrope_model / "config.json").read_text())
    config["longrope_factors"] = "factors.json"
    (longrope_model / "config.json").write_text(json.dumps(config))
    words = compose([str(longrope_model)]).words
    assert value_of("--max-model-len", words) == "512"


def test_a_model_without_factors_is_served_unchanged(model: Path) -> None:
    command = compose([str(model), "--port", "9", "--hf-overrides.x", "1"])
    assert command.words == [str(model), *DRAIN, "--hf-overrides", '{"x": 1}', "--port", "9"]
    assert "served unchanged" in command.notes[0]


def test_a_selection_without_factors_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="has none: name a factor file"):
        compose([str(model), "--selection", "length"])


def test_a_factor_file_of_another_model_is_refused(model: Path, factors: Path) -> None:
    theta = "--hf-overrides.rope_parameters.rope_theta=5e5"
    with pytest.raises(FactorFileError, match=r"model\.rope_theta is 10000"):
        compose([str(model), "--factors", str(factors), theta])


SCALED = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    {
        **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "original_max_position_embeddings": 16,
    },
]


@pytest.mark.parametrize("rope", SCALED, ids=lambda rope: rope["rope_type"])
def test_a_scaled_model_takes_its_own_original_set_only(
    rope: dict[str, Any], tmp_path: Path
) -> None:
    window = models.ORIGINAL // 4 if rope["rope_type"] == "linear" else models.ORIGINAL
    config = models.config(max_position_embeddings=window, rope_parameters=rope)
    model = str(models.write_model(tmp_path / "scaled", config))
    base = hf.base(config)
    lengths = [models.ORIGINAL, 256]
    made = [base.factor_set("original" if n == lengths[0] else "ntk", n) for n in lengths]
    schema.save(schema.build(base.identity, made), tmp_path / "its-own.json")
    words = compose([model, "--factors", str(tmp_path / "its-own.json")]).words
    assert value_of("--max-model-len", words) == "256"
    rope_parameters = json.loads(value_of("--hf-overrides", words))["rope_parameters"]
    assert rope_parameters["short_factor"] == list(base.own.factors)

    plain = hf.base(models.config())
    assert plain.identity == base.identity
    sets = [plain.factor_set("original", models.ORIGINAL)]
    schema.save(schema.build(plain.identity, sets), tmp_path / "plain.json")
    with pytest.raises(FactorFileError, match=r"an original set: factors\[\d\] is 1, but"):
        compose([model, "--factors", str(tmp_path / "plain.json")])
    unextended = compose([model])
    assert "served unchanged" in unextended.notes[0]


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "proportional", "partial_rotary_factor": 0.5},
        {"rope_type": "hers_own", "factor": 2.0},
        {"rope_type": "xdrope", "xdrope_section": [1, 1, 1, 1]},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_a_rotation_that_is_no_factor_set_is_refused(
    rope: dict[str, Any], factors: Path, tmp_path: Path
) -> None:
    model = str(models.write_model(tmp_path / "other", models.config(rope_parameters=rope)))
    with pytest.raises(FactorFileError, match="vector of factors"):
        compose([model, "--factors", str(factors)])
    assert "served unchanged" in compose([model]).notes[0]


def test_a_model_that_leaves_its_theta_to_its_architecture(factors: Path, tmp_path: Path) -> None:
    config = {key: value for key, value in models.config().items() if key != "rope_parameters"}
    model = str(models.write_model(tmp_path / "sparse", config))
    words = compose([model, "--factors", str(factors)]).words
    overrides = json.loads(value_of("--hf-overrides", words))
    assert overrides["rope_parameters"]["rope_theta"] == 10000.0


def test_what_a_partly_rotated_architecture_leaves_out_is_handed_on(tmp_path: Path) -> None:
    config = {
        **{"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox"},
        **{"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 64},
    }
    base = hf.base(config)
    assert base.identity.rotary_dim == 16  # a quarter of 64
    file = tmp_path / "x.json"
    schema.save(schema.build(base.identity, [base.factor_set("pi", 128)]), file)
    model = str(models.write_model(tmp_path / "neox", config))
    words = compose([model, "--factors", str(file)]).words
    overrides = json.loads(value_of("--hf-overrides", words))
    assert overrides["rope_parameters"]["partial_rotary_factor"] == 0.25


STATIC = "scales every request alike by yarn"


def test_qwen_whose_config_has_yarn_is_scaled_once(tmp_path: Path) -> None:
    """The file's sets take the place of the scaling, in both spellings, and a note says so."""
    for number, config in enumerate(
        (
            published_models.QWEN3_8B,
            {**published_models.QWEN3_8B, "rope_scaling": published_models.YARN},
            {
                **{**published_models.QWEN3_8B, "rope_scaling": None},
                "rope_parameters": {**published_models.YARN, "rope_theta": 1000000},
            },
        )
    ):
        model = tmp_path / str(number)
        model.mkdir()
        (model / "config.json").write_text(json.dumps(config))
        command = compose([str(model), "--factors", "qwen3-yarn"])
        assert value_of("--max-model-len", command.words) == "131072"
        overrides = json.loads(value_of("--hf-overrides", command.words))
        assert overrides["original_max_position_embeddings"] == 32768
        assert overrides["rope_parameters"]["short_factor"] == [1.0] * 64
        assert (number > 0) == any("the set of 131,072 tokens" in note for note in command.notes)
        unchanged = compose([str(model)])
        assert (number > 0) == any(STATIC in note for note in unchanged.notes)


def test_a_model_that_was_trained_with_yarn_is_not_advised(tmp_path: Path) -> None:
    config = {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not any(STATIC in note for note in compose([str(tmp_path)]).notes)


@pytest.mark.parametrize("name", ["QWEN2_5_7B_1M", "QWEN3_5_9B", "QWEN3_4B_2507"])
def test_other_qwens_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(getattr(published_models, name)))
    with pytest.raises(FactorFileError, match=r"dual_chunk|rotary_dim|rope_theta"):
        compose([str(tmp_path), "--factors", "qwen3-yarn"])


def test_what_only_vllm_can_read_is_left_to_it(factors: Path) -> None:
    command = compose(["s3://bucket/model", "--factors", str(factors)])
    assert value_of("--max-model-len", command.words) == "512"
    assert "nothing was checked" in compose(["s3://bucket/model"]).notes[0]


def test_a_model_in_mistrals_own_format_is_left_to_vllm(factors: Path, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text("{}")
    assert "nothing was checked" in compose([str(tmp_path)]).notes[0]
    assert "512" in compose([str(tmp_path), "--factors", str(factors)]).words


def test_what_the_hub_has_in_another_format_is_left_to_vllm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_config(*_: object, **__: object) -> str:
        raise RemoteEntryNotFoundError("404", response=mock.Mock())

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", without_config)
    assert "nothing was checked" in compose(["mistralai/some"]).notes[0]
    monkeypatch.undo()
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "True")
    assert "nothing was checked" in compose(["mistralai/some"]).notes[0]


@pytest.mark.parametrize("line", ["factors: f.json", "api_key_file: keys", "limits: {}"])
def test_a_configuration_file_has_only_vllms_flags(model: Path, tmp_path: Path, line: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"port: 9\n{line}\n")
    flag = line.partition(":")[0].replace("_", "-")
    with pytest.raises(UsageError, match=f"sets {flag}, .* give --{flag} on the command line"):
        compose([str(model), "--config", str(file)])


def test_the_embedded_model_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    identity = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "num_attention_heads": 9,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    }
    (tmp_path / "config.json").write_text(json.dumps(identity))
    monkeypatch.setattr(embedded, "model_directory", lambda: tmp_path)
    words = compose(["--port", "9"]).words
    assert words[0] == str(tmp_path)
    at = words.index("--served-model-name")
    assert tuple(words[at + 1 : at + 3]) == embedded.SERVED_NAMES
    assert words[at + 3].startswith("--")
    named = json.loads(value_of("--hf-overrides", words))["longrope_factors"]
    assert Path(named).name == f"{embedded.NAME}.json"

    words = compose(["--served-model-name", "mine"]).words
    assert words.count("--served-model-name") == 1


def test_a_name_of_the_library_is_a_factor_file(model: Path) -> None:
    with pytest.raises(ValueError, match=r"llama2-7b-ft128k\.json: model\.rotary_dim is 128"):
        compose([str(model), "--factors", "llama2-7b-ft128k"])


@pytest.mark.parametrize(
    ("capabilities", "on_cpu", "dtype"),
    [
        ({"avx512_bf16": False, "amx_bf16": False}, True, ["--dtype", "float32"]),
        ({"avx512_bf16": True, "amx_bf16": False}, True, []),
        ({"bf16": False}, True, ["--dtype", "float32"]),
        ({"bf16": False}, False, []),
    ],
)
def test_the_embedded_models_dtype_is_what_the_cpu_is_faster_with(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], on_cpu: bool, dtype: list[str]
) -> None:
    monkeypatch.setattr(environment, "on_cpu", lambda: on_cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    command = compose(["--port", "9"])
    assert command.words[1 : 3 + len(dtype)] == [*DRAIN, *dtype]
    assert any("no instructions for bfloat16" in note for note in command.notes) == bool(dtype)
    assert "--dtype" not in compose(["--dtype=bfloat16"]).words
