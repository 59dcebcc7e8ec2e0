"""The adapter of a factor set: where it is, whether it is the right one and can be served."""

from collections.abc import Iterator
from pathlib import Path

from longrope_factors.factor_file import model_directory, weight_files
from longrope_factors.factor_file.adapters import adapter_config, adapter_weights
from longrope_factors.factor_file.errors import FactorFileError, UsageError
from longrope_factors.factor_file.schema import Adapter, FactorFile

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def folder(adapter: Adapter, factors_path: Path) -> Path:
    """The absolute path of the adapter's folder, for the factor file at `factors_path`."""
    return (factors_path.parent / adapter.folder).absolute()


def targets(adapter: Adapter, factors_path: Path) -> set[str]:
    """The last parts of the names of the modules that the adapter is for, such as q_proj.

    Raises FactorFileError or UsageError, naming the file, for weights that are not an adapter.
    """
    weights = folder(adapter, factors_path) / WEIGHTS
    return {name.rpartition(".")[2] for name in adapter_weights.shapes(weights, adapter.rank)}


def check(factor_file: FactorFile, factors_path: Path, model_dir: Path | None = None) -> None:
    """Raise FactorFileError unless every adapter is the one that its set names and can be served.

    With `model_dir`, every adapter must have been trained on that model's weights, and the modules
    that it targets must be in the model. The message names the file, the set and what is wrong.
    """
    for index, factor_set in enumerate(factor_file.sets):
        if factor_set.adapter is None:
            continue
        try:
            _check(factor_set.adapter, factors_path, model_dir)
        except UsageError as error:
            raise FactorFileError(
                f"{factors_path}: sets[{index}] (max_length {factor_set.max_length}): adapter: "
                f"{error}"
            ) from None


def _check(adapter: Adapter, factors_path: Path, model_dir: Path | None) -> None:
    place = folder(adapter, factors_path)
    config, weights = place / CONFIG, place / WEIGHTS
    if not place.is_dir():
        raise FactorFileError(f"{place}: is not a folder.")
    for path in (config, weights):
        if not path.is_file():
            raise FactorFileError(f"{path}: is missing{_instead(place, path)}.")
    _check_inside(factors_path.parent.resolve(), (place, config, weights))
    form = adapter_config.read(config)
    if form.rank != adapter.rank:
        raise FactorFileError(
            f"{config}: has r {form.rank}, but the factor file says rank {adapter.rank}."
        )
    if form.scale != adapter.scale:
        raise FactorFileError(
            f"{config}: has lora_alpha / r as {form.scale:g}, but the factor file says scale "
            f"{adapter.scale:g}."
        )
    shapes = adapter_weights.shapes(weights, form.rank)
    if (sha256 := weight_files.sha256([weights])) != adapter.sha256:
        raise FactorFileError(
            f"{weights}: has the hash {sha256}, but the factor file says {adapter.sha256}."
        )
    if model_dir is not None:
        adapter_weights.check_targets(weights, shapes, model_dir)
        if (sha256 := model_directory.weights_sha256(model_dir)) != adapter.base_sha256:
            raise FactorFileError(
                f"{place}: was trained on weights with the hash {adapter.base_sha256}, but those "
                f"of {model_dir} have {sha256}."
            )


def _instead(place: Path, path: Path) -> str:
    others = [name for name in ("adapter_model.bin", "adapter_model.pt") if (place / name).exists()]
    if path.name == WEIGHTS and others:
        return f"; {others[0]} is not read, save it as safetensors"
    return ""


def _check_inside(root: Path, paths: tuple[Path, ...]) -> None:
    allowed = [root, *_blobs(root)]
    for path in paths:
        if not any(path.resolve().is_relative_to(place) for place in allowed):
            raise FactorFileError(
                f"{path}: is a link to {path.resolve()}; it should lie in the factor file's folder."
            )


def _blobs(root: Path) -> Iterator[Path]:
    """Where huggingface_hub's cache keeps the files of the snapshot that contains `root`."""
    for ancestor in (root, *root.parents):
        if ancestor.parent.name == "snapshots":
            yield ancestor.parent.parent / "blobs"
