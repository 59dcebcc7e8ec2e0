"""What the files of a release say agrees: the version, the citation, the models' cards."""

import re
import tomllib
from pathlib import Path

import yaml
from longrope_factors import __version__
from longrope_factors.factor_file.schema import load

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert project["version"] == __version__ == newest[1] == CITATION["version"]
    assert str(CITATION["date-released"]) == newest[2]
    assert CITATION["license"] == project["license"]
    wheels = re.findall(r"longrope-(\S+)-py3-none-any.whl", (ROOT / "README.md").read_text())
    assert set(wheels) == {__version__}


def test_the_models_cards_have_the_hashes_of_the_shipped_files() -> None:
    card = (ROOT / "docs" / "models.md").read_text()
    hashes = set()
    for path in (ROOT / "factors" / "library").glob("*.json"):
        for adapter in (factor_set.adapter for factor_set in load(path).sets):
            if adapter is not None:
                assert f"`{path.stem}`" in card
                hashes |= {adapter.sha256, adapter.base_sha256}
    assert hashes == set(re.findall(r"\b[0-9a-f]{64}\b", card))
