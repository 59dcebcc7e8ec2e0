"""What a recipe ends with: one model directory with every set that was found."""

import contextlib
import json
import os
from pathlib import Path

from longrope_factors import hf, interchange, schema
from longrope_factors.schema import FactorFile
from longrope_factors.whole_file import replacing

FACTORS = "factors.json"
_OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "*token*", "*.jinja", "*.model")


def assemble(finetuned: Path, found: FactorFile, folder: Path) -> list[str]:
    """Make `folder` a model directory of the fine-tuned weights and all the sets found.

    The weights are hard links to those of `finetuned`. Gives what the config's own two lists
    cannot say of the factor file, in sentences; our plug-in reads the file itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (*_OF_A_MODEL, "generation_config.json"):
        for path in finetuned.glob(pattern):
            with contextlib.suppress(FileExistsError):
                os.link(path, folder / path.name)
    schema.save(found, folder / FACTORS)
    config, lost = interchange.hf_config(hf.read_config(finetuned), found)
    config["longrope_factors"] = FACTORS
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return lost
