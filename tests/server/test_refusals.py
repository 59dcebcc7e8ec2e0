"""What cannot be served is refused by the command, in one sentence, before vLLM is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import models

COMMAND = """
import atexit, sys
from longrope_server.cli import main
atexit.register(lambda: print("vllm" in sys.modules, "torch" in sys.modules))
main()
"""


def refusal(*words: str) -> str:
    """The sentence with which `longrope serve` refuses; asserts that it does."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "serve", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == "False False\n"
    sentence = done.stderr.removesuffix("\n")
    assert sentence.startswith("longrope: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not valid JSON"),
        ("[]", "should be a JSON object"),
        ("{", "is not valid JSON"),
        ('{"format": "longrope-factors/3"}', "this version reads"),
        ('{"format": "longrope-factors/1"}', "model is missing"),
        ("\x00", "is not UTF-8 text"),
    ],
)
def test_a_malformed_factor_file(model: Path, tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    sentence = refusal(str(model), "--factors", str(file))
    assert str(file) in sentence
    assert part in sentence


@pytest.mark.parametrize("value", ["NaN", "Infinity", "0", "-1.5", '"1"', "null"])
def test_a_factor_that_is_no_positive_number(model: Path, factors: Path, value: str) -> None:
    document = json.loads(factors.read_text())
    document["sets"][1]["factors"][2] = 12345
    factors.write_text(json.dumps(document).replace("12345", value))
    sentence = refusal(str(model), "--factors", str(factors))
    assert "sets[1] (max_length 128): factors[2]" in sentence


def test_a_missing_adapter(model: Path, factors: Path) -> None:
    document = json.loads(factors.read_text())
    adapter = {"folder": "a", "sha256": "a" * 64, "rank": 4, "scale": 2.0, "base_sha256": "b" * 64}
    document["sets"][1]["adapter"] = adapter
    factors.write_text(json.dumps({**document, "format": "longrope-factors/2"}))
    sentence = refusal(str(model), "--factors", str(factors))
    assert sentence.endswith(
        f"sets[1] (max_length 128): adapter: {factors.parent / 'a'}: is not a folder."
    )


def test_a_missing_factor_file(model: Path, tmp_path: Path) -> None:
    assert "No such file" in refusal(str(model), "--factors", str(tmp_path / "none.json"))


def test_a_directory_without_a_config(tmp_path: Path) -> None:
    assert "config.json" in refusal(str(tmp_path))


def test_a_longrope_config_with_too_few_factors(tmp_path: Path) -> None:
    config = models.longrope_config()
    config["rope_parameters"]["long_factor"] = [1.0, 2.0]
    sentence = refusal(str(models.write_model(tmp_path / "bad", config)))
    assert "2 numbers in rope_parameters.long_factor" in sentence


def test_a_factor_file_for_another_model(model: Path, tmp_path: Path) -> None:
    config = models.config(hidden_size=64, head_dim=16)
    wider = models.write_model(tmp_path / "wider", config)
    from longrope_factors.factor_file import schema

    schema.save(models.factor_file(64), tmp_path / "f.json")
    sentence = refusal(str(wider), "--factors", str(tmp_path / "f.json"))
    assert "model.rotary_dim is 8" in sentence


def test_a_name_that_the_hub_cannot_give() -> None:
    assert "cannot be had from the hub" in refusal("nobody/no-such-model")
    assert "neither a directory here nor a name" in refusal("/no/such/directory")
