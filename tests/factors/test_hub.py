"""Where the factor file of a model is, if the model is named by its place on the Hub."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from longrope_factors.factor_file import hub, methods, schema
from longrope_factors.factor_file.errors import FactorFileError

from tests.factors.examples import IDENTITY

NAMED = "factors/long.json"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that was downloaded before, on a machine without a connection."""
    repository = tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_directory_and_an_absolute_path_need_no_hub(tmp_path: Path) -> None:
    assert hub.base_dir(str(tmp_path), NAMED) == tmp_path
    assert hub.weights_dir(str(tmp_path), None, None) == tmp_path
    assert hub.base_dir("some/model", None) == Path("some/model")
    assert hub.base_dir("some/model", str(tmp_path)) == Path("some/model")


def test_a_name_stands_for_its_snapshot(snapshot: Path) -> None:
    (snapshot / "factors").mkdir()
    made = schema.build(IDENTITY, [methods.factor_set("ntk", IDENTITY, 16384)])
    schema.save(made, snapshot / NAMED)
    assert hub.base_dir("some/model", NAMED) == snapshot
    assert hub.weights_dir("some/model", None, None) == snapshot


def test_a_factor_file_that_the_snapshot_lacks(snapshot: Path) -> None:
    with pytest.raises(FactorFileError, match=r"long.json: cannot be read: No such file"):
        hub.base_dir("some/model", NAMED)


@pytest.mark.usefixtures("snapshot")
@pytest.mark.parametrize("name", ["some/other", "s3://bucket/model"])
def test_a_model_that_the_hub_cannot_give(name: str) -> None:
    with pytest.raises(FactorFileError, match=f"{name} is not a directory here, and its factor"):
        hub.base_dir(name, NAMED)
    with pytest.raises(FactorFileError, match="and its weights cannot be had from the hub"):
        hub.weights_dir(name, None, None)
