"""Files of a model that is named by its place on the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from longrope_factors.factor_file import schema
from longrope_factors.factor_file.errors import FactorFileError


def base_dir(model: str, named: str | None, revision: str | None = None) -> Path:
    """The directory that the factor file `named` in a model's config is relative to.

    It is the model's own. For a model on the Hub it is the snapshot into which the factor file and
    the adapters of its sets are downloaded, if `named` is a relative path. Raises FactorFileError
    if they cannot be had, or as `schema.load` does.
    """
    directory = Path(model)
    if named is None or Path(named).is_absolute() or directory.exists():
        return directory
    what = f"its factor file {named}"
    snapshot = _snapshot(model, what, [named], revision)
    sets = schema.load(snapshot / named).sets
    folders = [factor_set.adapter.folder for factor_set in sets if factor_set.adapter is not None]
    if folders:
        beside = PurePosixPath(named).parent
        adapters = [str(beside / folder / "*") for folder in folders]
        _snapshot(model, f"the adapters of {what}", adapters, revision)
    return snapshot


def weights_dir(model: str, revision: str | None, cache_dir: str | None) -> Path:
    """The directory with the model's safetensors files, which are downloaded if need be.

    Raises FactorFileError if they cannot be had.
    """
    directory = Path(model)
    if directory.exists():
        return directory
    patterns = ["*.safetensors", "*.safetensors.index.json", "config.json"]
    return _snapshot(model, "its weights", patterns, revision, cache_dir)


def _snapshot(
    model: str,
    what: str,
    patterns: Sequence[str],
    revision: str | None,
    cache_dir: str | None = None,
) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                model, revision=revision, allow_patterns=list(patterns), cache_dir=cache_dir
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise FactorFileError(
            f"{model} is not a directory here, and {what} cannot be had from the hub: check the "
            "name and the connection, or name a directory."
        ) from error
