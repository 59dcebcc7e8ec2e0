"""What a recipe ends with: one model directory with every set that was found."""

import contextlib
import os
from pathlib import Path

from longrope_factors import hf, interchange, schema
from longrope_factors.finetuning.output import FACTORS
from longrope_factors.schema import FactorFile

_OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "*token*", "*.jinja", "*.model")


def assemble(finetuned: Path, found: FactorFile, folder: Path) -> None:
    """Make `folder` a model directory of the fine-tuned weights and all the sets found.

    The weights are hard links to those of `finetuned`. The config has two of the sets as its own
    lists; our plug-in reads the factor file itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (*_OF_A_MODEL, "generation_config.json"):
        for path in finetuned.glob(pattern):
            with contextlib.suppress(FileExistsError):
                os.link(path, folder / path.name)
    schema.save(found, folder / FACTORS)
    config, _ = interchange.hf_config(hf.read_config(finetuned), found)
    config["longrope_factors"] = FACTORS
    interchange.write_config(config, folder / "config.json")
