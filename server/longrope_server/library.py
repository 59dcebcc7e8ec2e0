"""The factor files that we ship."""

from pathlib import Path

import longrope_factors

from longrope_server.errors import UsageError


def factor_file(name: str) -> Path:
    """The path of a factor file of the library, by its file name.

    A wheel has the library inside the package, a source tree beside it.
    """
    package = Path(longrope_factors.__file__).parent
    for folder in (package / "library", package.parent / "library"):
        if (path := folder / name).is_file():
            return path
    raise UsageError(f"The library of factor files has no {name}: install longrope again.")
