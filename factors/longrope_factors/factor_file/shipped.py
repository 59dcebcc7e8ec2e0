"""The factor files that we ship."""

from pathlib import Path

from longrope_factors.factor_file.errors import UsageError


def folder() -> Path:
    """The folder that holds the factor files and the folders of their adapters."""
    return Path(__file__).parents[1] / "library"


def names() -> list[str]:
    """The names of the factor files without .json, in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.json"))


def path(name: str) -> Path:
    """The path of the factor file called `name`, with or without .json.

    Raises UsageError, listing all names, for any other name.
    """
    stem = name.removesuffix(".json")
    if stem not in names():
        raise UsageError(f"The library has no {name!r}, only {', '.join(names())}.")
    return folder() / f"{stem}.json"
