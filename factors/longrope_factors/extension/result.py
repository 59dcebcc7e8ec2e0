"""What a recipe ends with: one model directory with every set that was found."""

import os
import shutil
from pathlib import Path

from longrope_factors.factor_file import hf, schema
from longrope_factors.factor_file.schema import FactorFile
from longrope_factors.finetuning.output import FACTORS
from longrope_factors.formats import two_lists

_OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "*token*", "*.jinja", "*.model")


def assemble(model: Path, found: FactorFile, adapters: Path, folder: Path) -> None:
    """Make `folder` a model directory of the weights in `model` and all the sets found.

    Weights, and the sets' adapters from the folder `adapters`, are hard links, or copies where the
    file system has none. The config has two of the sets as its own lists; our plug-in reads the
    factor file itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (*_OF_A_MODEL, "generation_config.json"):
        for path in model.glob(pattern):
            _link(path, folder / path.name)
    for name in {each.adapter.folder for each in found.sets if each.adapter is not None}:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (adapters / name).iterdir():
            _link(path, folder / name / path.name)
    schema.save(found, folder / FACTORS)
    config, _ = two_lists.hf_config(hf.read_config(model), found)
    config["longrope_factors"] = FACTORS
    two_lists.write_config(config, folder / "config.json")


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # the base model may lie on another disk
        shutil.copyfile(source, target)
