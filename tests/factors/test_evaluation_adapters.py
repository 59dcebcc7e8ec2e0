"""Sets with an adapter are measured with it, as they are served."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.cli import app
from longrope_factors.evaluating import contenders
from longrope_factors.factor_file import hf, schema
from longrope_factors.models import loading, perplexity
from longrope_factors.models.adapted import with_adapter
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from tests.factors import adapters, finetuning

SHORT, LONG = finetuning.ORIGINAL, finetuning.LENGTH
IDS = [2 + position * 7 % 90 for position in range(LONG)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `adapter`, the factor file that names it, `merged` and a text."""
    folder = adapters.beside_a_model(tmp_path_factory.mktemp("adapters"))
    model = folder / "model"
    base = AutoModelForCausalLM.from_pretrained(model)
    PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload().save_pretrained(
        folder / "merged"
    )
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "merged")
    finetuning.text(folder / "text.txt", 100)
    return folder


def test_the_models_own_weights_come_back(place: Path) -> None:
    loaded = loading.load(place / "model", "cpu", "float32")

    def losses() -> list[float]:
        found = perplexity.perplexity(loaded.model, IDS, None, loaded.identity, 100)
        return list(found.tolist())

    before, names = losses(), [name for name, _ in loaded.model.named_modules()]
    for _ in range(2):
        with with_adapter(loaded, place / "adapter"):
            assert losses() != pytest.approx(before, rel=1e-2)
        assert losses() == before
        assert [name for name, _ in loaded.model.named_modules()] == names


def test_an_adapter_computes_in_the_models_dtype(place: Path) -> None:
    loaded = loading.load(place / "model", "cpu", "bfloat16")
    with with_adapter(loaded, place / "adapter"):
        dtypes = {str(parameter.dtype) for parameter in loaded.model.parameters()}
        assert not loaded.model.training
    assert dtypes == {"torch.bfloat16"}


def run(*arguments: str | Path) -> Any:
    """What an evaluation prints, checked to be made."""
    common = ["--device", "cpu", "--dtype", "float32", "--json"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), *common])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_perplexity_is_that_of_the_merged_model(place: Path, tmp_path: Path) -> None:
    options = ["--length", str(SHORT), "--length", str(LONG), "--corpus", place / "text.txt"]
    found = run(
        *("perplexity", "--model", place / "model", "--factors", place / adapters.FACTORS),
        *("--method", "ntk", *options, "-o", tmp_path / "a.jsonl"),
    )
    merged = run(
        *("perplexity", "--model", place / "merged", "--method", "ntk"),
        *(*options, "-o", tmp_path / "b.jsonl"),
    )
    by_set = {
        (measurement["method"], measurement["length"]): measurement["perplexity"]
        for measurement in found
    }
    of_merged = {measurement["length"]: measurement["perplexity"] for measurement in merged}
    assert by_set["factors.json", LONG] == pytest.approx(of_merged[LONG], rel=1e-4)
    assert by_set["factors.json", SHORT] == by_set["ntk", SHORT], "the short set has no adapter"
    assert by_set["factors.json", LONG] != pytest.approx(by_set["ntk", LONG], rel=1e-2)


def test_another_adapter_is_refused(place: Path, tmp_path: Path) -> None:
    factor_file = schema.load(place / adapters.FACTORS)
    found = factor_file.sets[1].adapter
    assert found is not None
    other = found.model_copy(update={"sha256": "0" * 64})
    sets = [factor_file.sets[0], factor_file.sets[1].model_copy(update={"adapter": other})]
    path = place / "other.json"
    schema.save(schema.build(factor_file.model, sets), path)
    result = CliRunner().invoke(
        app,
        [
            *("evaluate", "perplexity", "--model", str(place / "model"), "--factors", str(path)),
            *("--length", str(LONG), "--corpus", str(place / "text.txt")),
            *("-o", str(tmp_path / "x.jsonl")),
        ],
    )
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "but the factor file says 0000" in result.stderr


def test_the_models_own_sets_bring_their_adapter_from_where_the_config_is(
    place: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(place / "model", tmp_path / "here" / "model")
    factor_file = schema.load(place / adapters.FACTORS)
    found = factor_file.sets[1].adapter
    assert found is not None
    shutil.copyfile(place / adapters.FACTORS, model / "factors.json")
    shutil.copytree(place / found.folder, model / found.folder)
    config = hf.read_config(model)
    fields = hf.hf_overrides(factor_file, "", config) | {"longrope_factors": "factors.json"}
    outer = {name: config[name] for name in ("architectures", "model_type")}
    for content in (config | fields, {**outer, "text_config": config | fields}):
        (model / "config.json").write_text(json.dumps(content))
        (own,) = contenders.planned(model, [contenders.OWN], None, [LONG])[LONG]
        assert own.adapter == model / found.folder
