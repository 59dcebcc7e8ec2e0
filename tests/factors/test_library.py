"""The shipped files hold the published numbers, and say where they came from."""

import json
from pathlib import Path

import pytest
from longrope_factors.factor_file import schema, shipped
from longrope_factors.factor_file.schema import FactorFile
from longrope_factors.library_command import library_app
from typer.testing import CliRunner

from tools import published

RECORDS = Path(__file__).parents[1] / "published"
NAMES = (
    "llama2-7b-ft128k",
    "llama2-7b-ft256k",
    "llama3-8b-longrope2-128k",
    "mistral-7b-ft128k",
    "mistral-7b-ft256k",
    "phi-3-mini-128k",
)


def test_every_published_file_is_shipped() -> None:
    assert set(NAMES) < set(shipped.names())
    for name in NAMES:
        factor_file = schema.load(shipped.path(name))
        for factor_set in factor_file.sets:
            assert factor_set.provenance.method == "published"
            assert "MIT" in factor_set.provenance.source


def without_dates(factor_file: FactorFile) -> str:
    document = factor_file.model_dump(mode="json")
    for factor_set in document["sets"]:
        del factor_set["provenance"]["date"], factor_set["provenance"]["tool_version"]
    return json.dumps(document)


def test_the_script_makes_them_again() -> None:
    made = dict(published.files(RECORDS))
    assert sorted(made) == sorted(NAMES)
    for name, factor_file in made.items():
        shipped_file = schema.load(shipped.path(name))
        assert without_dates(factor_file) == without_dates(shipped_file)


def test_every_published_number_is_in_a_file() -> None:
    ours = {
        (factor_set.max_length, factor_set.factors)
        for name in NAMES
        for factor_set in schema.load(shipped.path(name)).sets
    }
    for path in RECORDS.glob("*.json"):
        record = json.loads(path.read_text())
        factors = record.get("rescale_factors") or record["long_factor"]
        assert (record["target_length"], tuple(map(float, factors))) in ours


@pytest.mark.parametrize(
    ("name", "length", "max_length", "attention_factor"),
    [
        ("llama2-7b-ft128k", 4096, 4096, 1.0),
        ("llama2-7b-ft128k", 100_000, 131072, (1 + 5 / 12) ** 0.5),
        ("llama2-7b-ft256k", 100_000, 262144, (1 + 6 / 12) ** 0.5),
        ("mistral-7b-ft128k", 16384, 131072, (1 + 5 / 12) ** 0.5),
        ("mistral-7b-ft256k", 2_097_152, 2_097_152, (1 + 9 / 12) ** 0.5),
        ("llama3-8b-longrope2-128k", 8193, 131072, (1 + 4 / 13) ** 0.5),
        ("phi-3-mini-128k", 4096, 4096, (1 + 5 / 12) ** 0.5),
    ],
)
def test_lengths_and_attention_factors(
    name: str, length: int, max_length: int, attention_factor: float
) -> None:
    factor_file = schema.load(shipped.path(name))
    chosen = factor_file.sets[factor_file.select(length)]
    assert chosen.max_length == max_length
    # ln s / ln L is a ratio of powers of two here.
    assert chosen.attention_factor == pytest.approx(attention_factor, rel=1e-15)


def test_list_names_every_file() -> None:
    result = CliRunner().invoke(library_app, ["list"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    for name in shipped.names():
        assert name in result.stdout
    assert "2048k" in result.stdout


def test_path() -> None:
    result = CliRunner().invoke(library_app, ["path", "llama2-7b-ft128k"])
    assert schema.load(result.stdout.strip()).max_length == 2_097_152
    result = CliRunner().invoke(library_app, ["path", "gpt-2"])
    assert result.exit_code == 2
    assert "no 'gpt-2', only llama2-7b-ft128k" in result.stderr
