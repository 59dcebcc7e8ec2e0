"""Numbers that no engine can hold are refused wherever factors are read, by one table of bounds."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from longrope_factors.cli import app
from longrope_factors.factor_file import bounds, hf, schema
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.formats import authors_csv
from typer.testing import CliRunner

from tests.factors.examples import document, llama_config, longrope_config, model_directory, write

BEYOND = [
    ("factor", 5e-324),
    ("factor", 1e-300),
    ("factor", 0.000999),
    ("factor", 1.1e12),
    ("factor", 1e308),
    ("attention_factor", 5e-324),
    ("attention_factor", 0.00099),
    ("attention_factor", 1000.1),
    ("attention_factor", 1e300),
    ("rope_theta", 1.0),
    ("rope_theta", 1.0000000000000002),
    ("rope_theta", 1e16),
    ("rope_theta", 1e308),
    ("max_length", 2**31),
    ("start_tokens", 2**31),
    ("rotary_dim", 2**16 + 2),
    ("original_max_position_embeddings", 1),
    ("original_max_position_embeddings", 2**31),
]
WITHIN = [
    ("factor", 0.001),
    ("factor", 1e12),
    ("attention_factor", 0.001),
    ("attention_factor", 1000.0),
    ("rope_theta", 1.000001),
    ("rope_theta", 5e9),
    ("rope_theta", 1e15),
    ("max_length", 2**31 - 1),
    ("start_tokens", 2**31 - 1),
    ("original_max_position_embeddings", 2),
    ("original_max_position_embeddings", 2**31 - 1),
]


def with_number(field: str, value: float) -> dict[str, Any]:
    content = document()
    last = content["sets"][-1]
    if field == "factor":
        last["factors"][5] = value
    elif field in last:
        last[field] = value
    else:
        content["model"][field] = value
    return content


@pytest.mark.parametrize(("field", "value"), BEYOND)
def test_a_file_with_a_number_beyond_its_bounds(field: str, value: float, tmp_path: Path) -> None:
    content = with_number(field, value)
    with pytest.raises(FactorFileError, match=field) as caught:
        schema.load(write(tmp_path / "x.json", content))
    assert "should be" in str(caught.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema.json_schema())


@pytest.mark.parametrize(("field", "value"), WITHIN)
def test_a_file_with_a_number_at_its_bounds(field: str, value: float, tmp_path: Path) -> None:
    content = with_number(field, value)
    schema.load(write(tmp_path / "x.json", content))
    jsonschema.validate(content, schema.json_schema())


@pytest.mark.parametrize(("field", "value"), [case for case in BEYOND if case[0] == "factor"])
def test_factors_of_a_config_and_of_a_csv(field: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(FactorFileError, match=r"long_factor\[47\] .* from 0\.001 to 1e\+12"):
        hf.two_list(longrope_config({"long_factor": [1.0] * 47 + [value]}))
    path = write(tmp_path / "x.csv", "\n".join(["1.0", repr(value)]))
    with pytest.raises(FactorFileError, match=r"line 2 is .* from 0\.001 to 1e\+12"):
        authors_csv.read(path, 4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (longrope_config({"attention_factor": 1e-5}), "attention_factor 1e-05; .* from 0.001 to"),
        (longrope_config({"long_mscale": 1e4}), "long_mscale 10000.0; .* to 1000"),
        (longrope_config({"rope_theta": 1.0}), "rope_theta 1.0; .* from 1"),
        (longrope_config({"rope_theta": 10**20}), "rope_theta 1000.*; .* to 1e"),
        (longrope_config({"factor": 1e30}), "rope_parameters.factor"),
        (longrope_config(max_position_embeddings=2**31), "max_position_embeddings 2147483648"),
        (llama_config(head_dim=2**31 - 2), "rotary dimension of 2147483646"),
    ],
)
def test_a_config_with_a_number_beyond_its_bounds(config: dict[str, Any], words: str) -> None:
    with pytest.raises(FactorFileError, match=words) as caught:
        hf.base(config)
    assert "\n" not in str(caught.value)


def test_bounds_are_said_as_numbers() -> None:
    assert str(bounds.FACTOR) == "from 0.001 to 1e+12"
    assert not bounds.FACTOR.hold(float("nan"))


# Every command that takes a file, with FILE where it stands.
COMMANDS = [
    "validate FILE",
    "show FILE",
    "overrides FILE",
    "export FILE --to csv -o OUT",
    "import FILE --from csv --model MODEL --length 8 --start-tokens 0 --attention-factor 1 -o OUT",
    "extend FILE",
    "evaluate perplexity --model MODEL --length 64 --factors FILE --corpus OTHER -o OUT",
    "search --model MODEL --length 64 --corpus OTHER --keep FILE -o OUT",
    "finetune --model MODEL --factors FILE --length 8192 --corpus OTHER -o OUT",
]


def kept_from_us(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user without permission, also where the tests' user is root."""
    access, opened, shut = os.access, Path.open, str(path)

    def refuse(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file) == shut:
            raise PermissionError(13, "Permission denied", shut)
        return opened(file, *arguments, **options)

    monkeypatch.setattr(
        os,
        "access",
        lambda file, *rest, **options: str(file) != shut and access(file, *rest, **options),
    )
    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "no permission"])
def test_an_unreadable_file_is_one_sentence(
    command: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_directory(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"")
    file = tmp_path / "the-file"
    if kind == "folder":
        file.mkdir()
    elif kind == "binary":
        file.write_bytes(bytes(range(256)))
    elif kind == "no permission":
        write(file, document())
        kept_from_us(file, monkeypatch)
    other = write(tmp_path / "other.txt", "text " * 100)
    names = {"FILE": file, "OUT": tmp_path / "out", "MODEL": model, "OTHER": other}
    result = CliRunner().invoke(app, [str(names.get(word, word)) for word in command.split()])
    assert "the-file" in result.stderr
    assert result.exit_code == 2, result.output
    assert "\n" not in result.stderr.strip()
    assert "Usage" not in result.stderr
