"""A model of which a part is missing is refused, not filled with random numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from longrope_factors.cli import app
from longrope_factors.factor_file import model_directory
from longrope_factors.models import loading
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.factors import tiny

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in several shards, with an index."""
    folder = tmp_path_factory.mktemp("sharded") / "model"
    whole = tiny.save(folder, tiny.letters())
    model = AutoModelForCausalLM.from_pretrained(whole)
    (whole / "model.safetensors").unlink()
    model.save_pretrained(whole, max_shard_size="50KB")
    return folder


@pytest.fixture
def sharded(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def shards(model: Path) -> list[Path]:
    return sorted(model.glob("model-*.safetensors"))


def change_index(model: Path, **changes: Any) -> None:
    index = model / INDEX
    index.write_text(json.dumps({**json.loads(index.read_text()), **changes}))


def test_a_model_in_shards_is_loaded(sharded: Path) -> None:
    assert len(shards(sharded)) > 3
    assert len(model_directory.weights(sharded)) == len(shards(sharded))
    assert loading.load(sharded, "cpu").identity.rotary_dim == 64


def without_a_tensor(model: Path) -> None:
    for shard in shards(model):
        tensors = load_file(shard)
        if len(tensors) > 1:
            tensors.pop(min(tensors))
            save_file(tensors, shard, {"format": "pt"})
            return


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: shards(model)[1].unlink(), "model-00002-of-"),
        (
            lambda model: shards(model)[-1].unlink(),
            "is missing; model.safetensors.index.json names",
        ),
        (lambda model: (model / INDEX).unlink(), f"{INDEX}: is missing; model-0000"),
        (
            lambda model: shards(model)[0].write_bytes(shards(model)[0].read_bytes()[:-9]),
            "model-00001-of-",
        ),
        (
            lambda model: shards(model)[0].write_bytes(shards(model)[1].read_bytes()),
            "is a part of another model",
        ),
        (without_a_tensor, "lacks the tensor"),
        (lambda model: (model / INDEX).write_text("{"), f"{INDEX}: is not valid JSON"),
        (lambda model: change_index(model, weight_map=[1]), f"{INDEX}: has no weight_map"),
        (lambda model: change_index(model, weight_map={"a": 1}), f"{INDEX}: has no weight_map"),
    ],
)
def test_a_model_that_is_not_whole_is_refused_at_once(
    sharded: Path, tmp_path: Path, spoil: Any, words: str
) -> None:
    spoil(sharded)
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 20)
    results = tmp_path / "results.jsonl"
    arguments = ["--model", sharded, "--corpus", text, "--length", "64", "--method", "pi"]
    command = ["evaluate", "perplexity", *arguments, "-o", results]
    done = CliRunner().invoke(app, list(map(str, command)))
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not results.exists()


@pytest.mark.parametrize("lacking", ["lm_head.weight", "model.norm.weight", "mlp"])
def test_weights_that_no_file_has_are_refused(tmp_path: Path, lacking: str) -> None:
    """One shard under the name of a whole model, say."""
    model = tiny.save(tmp_path / "model", tiny.letters())
    path = model / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if lacking not in name}
    save_file(kept, path, {"format": "pt"})
    with pytest.raises(ValueError, match=f"has no weights for .*{lacking}.* random numbers"):
        loading.load(model, "cpu")
