"""The factor files that we ship."""

from pathlib import Path

from longrope_factors.factor_file.errors import UsageError


def folder() -> Path:
    """Where they are, each with the folders of its adapters."""
    return Path(__file__).parents[1] / "library"


def names() -> list[str]:
    """Their names, in alphabetical order, without .json."""
    return sorted(path.stem for path in folder().glob("*.json"))


def path(name: str) -> Path:
    """The factor file of that name, with or without .json; UsageError, listing all, for another."""
    stem = name.removesuffix(".json")
    if stem not in names():
        raise UsageError(f"The library has no {name!r}, only {', '.join(names())}.")
    return folder() / f"{stem}.json"
