"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from longrope_factors.factor_file.errors import FactorFileError


@contextlib.contextmanager
def replacing(path: Path, make_folder: bool = True) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when the block ends well.

    Makes the folder too, unless told not to. Raises FactorFileError naming `path` if it cannot be
    written; what was at `path` is then still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FactorFileError(f"{path}: cannot be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
