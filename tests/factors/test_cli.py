"""The commands, as a user types them; their mistakes are one sentence and exit status 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from longrope_factors.cli import app
from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import hf, schema
from typer.testing import CliRunner, Result

from tests.factors.examples import (
    document,
    llama_config,
    longrope_config,
    model_directory,
    write,
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_directory(tmp_path / "model")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "x.json", document())


def make(model: Path, output: Path, method: str, *lengths: int) -> list[str | Path]:
    options = [word for length in lengths for word in ("--length", str(length))]
    return ["make", "--model", model, "--method", method, *options, "-o", output]


def test_make_one_set_for_each_length(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.json"
    result = run(*make(model, output, "yarn", 32768, 8192, 16384))
    assert result.exit_code == 0
    made = schema.load(output)
    assert [factor_set.max_length for factor_set in made.sets] == [8192, 16384, 32768]
    assert [factor_set.provenance.method for factor_set in made.sets] == [
        "original",
        "yarn",
        "yarn",
    ]
    assert made.model == hf.model_identity(llama_config(), "model")


@pytest.mark.parametrize(
    ("method", "lengths", "words"),
    [
        ("pi", [4096], "extension ratio below 1"),
        ("original", [8192, 4096], "extension ratio below 1"),
        ("longrope", [16384], "original, pi, ntk, yarn"),
        ("pi", [16384, 16384], "max_length"),
    ],
)
def test_make_refusals(
    method: str, lengths: list[int], words: str, model: Path, tmp_path: Path
) -> None:
    assert words in refused(*make(model, tmp_path / "made.json", method, *lengths))
    assert not (tmp_path / "made.json").exists()


def test_make_without_a_model(tmp_path: Path) -> None:
    message = refused(*make(tmp_path / "none", tmp_path / "made.json", "pi", 16384))
    assert "config.json" in message


def test_make_goes_on_from_a_longrope_models_short_list(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "model", longrope_config())
    output = tmp_path / "made.json"
    assert run(*make(model, output, "pi", 4096, 16384)).exit_code == 0
    short = hf.two_list(longrope_config()).sets[0]
    original, extended = schema.load(output).sets
    assert original.fingerprint == short.fingerprint
    assert extended.factors == tuple(4 * factor for factor in short.factors)
    assert extended.attention_factor == short.attention_factor


def test_make_where_it_cannot_write(model: Path, tmp_path: Path) -> None:
    assert "cannot be written" in refused(*make(model, tmp_path / "no" / "x.json", "pi", 16384))


def test_validate(file: Path, model: Path) -> None:
    result = run("validate", file, "--model", model)
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert "3 sets" in result.stdout


def test_validate_refuses_a_malformed_file(tmp_path: Path) -> None:
    content = document()
    content["sets"][2]["factors"][5] = -1
    message = refused("validate", write(tmp_path / "bad.json", content))
    assert "bad.json: sets[2] (max_length 32768): factors[5]" in message


def test_validate_refuses_another_model(file: Path, tmp_path: Path) -> None:
    config = llama_config(rope_parameters={"rope_theta": 1e4})
    message = refused("validate", file, "--model", model_directory(tmp_path / "other", config))
    assert "x.json: model.rope_theta is 100000.0" in message
    assert "10000.0" in message


@pytest.mark.parametrize("command", ["validate", "show", "overrides"])
def test_missing_file(command: str, tmp_path: Path) -> None:
    assert "none.json" in refused(command, tmp_path / "none.json")


def test_show_prints_every_set(file: Path) -> None:
    result = run("show", file)
    assert result.exit_code == 0
    for word in ("8,192", "16,384", "32,768", "original", "pi", "example"):
        assert word in result.stdout
    assert "…" not in result.stdout


def test_show_as_json(file: Path) -> None:
    shown = json.loads(run("show", file, "--json").stdout)
    factor_file = schema.load(file)
    assert [factor_set["fingerprint"] for factor_set in shown["sets"]] == [
        factor_set.fingerprint for factor_set in factor_file.sets
    ]
    assert shown["sets"][1]["factors"] == list(factor_file.sets[1].factors)


def test_show_draws(file: Path, tmp_path: Path) -> None:
    assert run("show", file, "--plot", tmp_path / "x.png").exit_code == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_show_draws_where_it_cannot(file: Path, tmp_path: Path) -> None:
    assert "x.png" in refused("show", file, "--plot", tmp_path / "no" / "x.png")


def test_overrides_on_one_line(file: Path, model: Path) -> None:
    result = run("overrides", file, "--model", model)
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == hf.hf_overrides(schema.load(file), file)


def test_overrides_keep_the_models_partial_rotation(file: Path, tmp_path: Path) -> None:
    config = llama_config(head_dim=128, partial_rotary_factor=0.5)
    result = run("overrides", file, "--model", model_directory(tmp_path / "part", config))
    assert json.loads(result.stdout)["rope_parameters"]["partial_rotary_factor"] == 0.5


def test_schema() -> None:
    assert json.loads(run("schema").stdout) == schema.json_schema()


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from longrope_factors.cli import app; "
        "assert CliRunner().invoke(app, ['evaluate', 'perplexity', '--help']).exit_code == 0; "
        "assert not {'torch', 'transformers', 'matplotlib', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_gpu_whose_memory_is_too_small_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch calls its own."""

    with pytest.raises(typer.Exit) as ended, one_sentence():
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert ended.value.exit_code == 1
    assert "the GPU's memory is too small" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="a fault"), one_sentence():
        raise RuntimeError("a fault")
