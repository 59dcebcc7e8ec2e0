"""JSON files: read with a size limit and without duplicate keys, and written to be readable."""

import json
import math
import stat
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files import text_files

SIZE_LIMIT = 16 * 1024 * 1024
_SHOWN_CHARACTERS = 60
_LINE_LENGTH = 100

Place = tuple[str | int, ...]


def read(path: Path) -> Any:
    """Parse the JSON file at `path`: UTF-8, at most SIZE_LIMIT bytes.

    NaN and Infinity are accepted here, so that the caller can name the field that has them (see
    `first_non_finite`). Raises FactorFileError: one sentence naming the file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FactorFileError(f"{path}: is not a regular file.")
        # Read no further than the limit: the parser needs many times the memory of the text.
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, FactorFileError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise FactorFileError(f"{path}: cannot be read: {reason}.") from None
    if len(content) > SIZE_LIMIT:
        raise FactorFileError(
            f"{path}: is larger than {SIZE_LIMIT // 1024**2} MiB, the limit for a JSON file here."
        )
    text = text_files.decoded(path, content)
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise FactorFileError(f"{path}: is not usable JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise FactorFileError(f"{path}: is not valid JSON: {error}.") from None


def first_non_finite(document: Any) -> tuple[Place, float] | None:
    """The place and value of the first NaN or Infinity in a parsed document, if any."""
    for place, value in _leaves(document):
        if isinstance(value, float) and not math.isfinite(value):
            return place, value
    return None


def shown(value: Any) -> str:
    """`value` as JSON on one line, shortened for a sentence."""
    try:
        text = json.dumps(value)
    except (RecursionError, TypeError, ValueError):
        text = f"a {type(value).__name__}"
    if len(text) > _SHOWN_CHARACTERS:
        return text[: _SHOWN_CHARACTERS - 3] + "..."
    return text


def formatted(value: Any, depth: int = 0) -> str:
    """`value` as readable JSON: indented, with lists of numbers filling their lines.

    Raises ValueError for NaN and Infinity.
    """
    indent, inner = "  " * depth, "  " * (depth + 1)
    if isinstance(value, dict) and value:
        members = (f"{inner}{json.dumps(k)}: {formatted(v, depth + 1)}" for k, v in value.items())
        return "{\n" + ",\n".join(members) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        if all(isinstance(item, int | float) for item in value):
            line = ", ".join(json.dumps(item, allow_nan=False) for item in value)
            filled = textwrap.fill(
                line, _LINE_LENGTH, initial_indent=inner, subsequent_indent=inner
            )
            return f"[\n{filled}\n{indent}]"
        items = (inner + formatted(item, depth + 1) for item in value)
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _leaves(document: Any) -> Iterator[tuple[Place, Any]]:
    pending: list[tuple[Place, Any]] = [((), document)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, dict):
            children = [((*place, key), child) for key, child in value.items()]
        elif isinstance(value, list):
            children = [((*place, index), child) for index, child in enumerate(value)]
        else:
            yield place, value
            continue
        pending.extend(reversed(children))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"key {shown(key)} appears twice in one object")
        members[key] = value
    return members
