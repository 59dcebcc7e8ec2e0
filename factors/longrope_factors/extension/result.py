"""The result of a recipe: one model directory with all the sets that were found."""

import filecmp
import os
import shutil
from pathlib import Path

from longrope_factors.factor_file import hf, schema
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.factor_file.schema import FactorFile
from longrope_factors.finetuning.output import FACTORS
from longrope_factors.formats import two_lists

_OF_A_MODEL = (
    *("*.safetensors", "*.safetensors.index.json"),
    *("*token*", "*.jinja", "*.model", "vocab.*", "merges.txt"),
)


def assemble(model: Path, factor_file: FactorFile, adapters: Path, folder: Path) -> None:
    """Make `folder` a model directory with the weights of `model` and the sets of `factor_file`.

    The weights, and the sets' adapters from the folder `adapters`, become hard links, or copies if
    the file system allows no links. The config has two of the sets as its own lists; our plug-in
    reads the factor file itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (*_OF_A_MODEL, "generation_config.json"):
        for path in model.glob(pattern):
            _link(path, folder / path.name)
    sets = factor_file.sets
    for name in {
        factor_set.adapter.folder for factor_set in sets if factor_set.adapter is not None
    }:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (adapters / name).iterdir():
            _link(path, folder / name / path.name)
    schema.save(factor_file, folder / FACTORS)
    config, _ = two_lists.hf_config(hf.read_config(model), factor_file)
    config["longrope_factors"] = FACTORS
    two_lists.write_config(config, folder / "config.json")


def _link(source: Path, target: Path) -> None:
    """Make `target` the file `source`, in one moment: a copy may be killed before it is whole."""
    if target.exists() and filecmp.cmp(source, target):
        return
    with replacing(target) as path:
        path.unlink(missing_ok=True)
        try:
            os.link(source, path)
        except OSError:  # the base model may be on another disk
            shutil.copy2(source, path)
