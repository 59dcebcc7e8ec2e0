"""The profiles that we ship."""

import importlib.resources
from pathlib import Path

from longrope_loadtest.errors import UsageError


def names() -> list[str]:
    """The names of the shipped profiles."""
    return sorted(path.stem for path in _directory().glob("*.yaml"))


def find(word: str) -> Path:
    """The path of a profile; `word` is a file or the name of a shipped profile.

    Raises:
        UsageError: It is neither.
    """
    path = Path(word)
    if path.is_file():
        return path
    ours = _directory() / f"{word}.yaml"
    if ours.is_file():
        return ours
    raise UsageError(
        f"There is no file {word}, and no shipped profile of that name: {', '.join(names())}."
    )


def _directory() -> Path:
    return Path(str(importlib.resources.files(__package__)))
