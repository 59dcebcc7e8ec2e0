"""The words that follow `longrope serve`: vLLM's flags, a few of which we read or merge with ours.

vLLM's own parser knows all of its flags, but importing it takes seconds. Here only the flags that
are asked for by name are recognised; every other word stays where it is.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from longrope_server.errors import UsageError

MULTIPLIERS = {
    **{"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    **{"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40},
}


class Arguments:
    """Command-line words; the values of vLLM's `--config` file are their defaults.

    Flags are named with dashes and without the leading two ('max-model-len'). Underscores on the
    command line mean the same, as they do to vLLM.
    """

    def __init__(self, words: list[str]) -> None:
        self.rest = list(words)

    def take_model(self) -> str | None:
        """Removes and returns MODEL: the first word, `--model`, or the configuration file's."""
        if self.rest and not self.rest[0].startswith("-"):
            return self.rest.pop(0)
        return self.take("model")

    def take(self, flag: str) -> str | None:
        """Removes every occurrence of a flag with one value; returns the last one's value."""
        value = self._from_file(flag)
        for index, name, inline in self._occurrences():
            if name == flag:
                value = self._cut(index, inline, flag)
        return None if value is None else str(value)

    def peek(self, flag: str) -> str | None:
        """The value that `take` would return; nothing is removed."""
        return Arguments(self.rest).take(flag)

    def take_object(self, flag: str) -> dict[str, Any]:
        """Removes a flag whose value is a JSON object, in all of vLLM's spellings.

        `--flag '{"a": {"b": 1}}'` and `--flag.a.b 1` mean the same and are merged.
        """
        given = self._from_file(flag)
        merged = {} if given is None else _object(given, flag)
        for index, name, inline in self._occurrences():
            head, _, path = name.partition(".")
            if head == flag:
                merged = _updated(merged, path, self._cut(index, inline, name), flag)
        return merged

    def _occurrences(self) -> Iterator[tuple[int, str, str | None]]:
        """Position, name and inline value of each flag; the caller may remove words meanwhile."""
        index = 0
        while index < len(self.rest):
            before = len(self.rest)
            if match := re.fullmatch(r"--([^=]+)(?:=(.*))?", self.rest[index], re.DOTALL):
                head, dot, path = match[1].partition(".")
                yield index, head.replace("_", "-") + dot + path, match[2]
            if len(self.rest) == before:
                index += 1

    def _cut(self, index: int, inline: str | None, flag: str) -> str:
        """Removes the flag at `index` and its value; returns the value."""
        del self.rest[index]
        if inline is not None:
            return inline
        if index >= len(self.rest):
            raise UsageError(f"--{flag} is given without a value.")
        return self.rest.pop(index)

    def of_file(self, flags: Iterable[str]) -> str | None:
        """The first of `flags` that vLLM's `--config` file has; None without any."""
        return next((flag for flag in flags if flag in self._file), None)

    def _from_file(self, flag: str) -> Any:
        return self._file.get(flag)

    @cached_property
    def _file(self) -> dict[str, Any]:
        """vLLM's `--config` file, which stays on the command line for vLLM to read."""
        if "--config" not in self.rest[:-1]:
            return {}
        import yaml  # comes with vLLM, and few command lines need it

        path = Path(self.rest[self.rest.index("--config") + 1])
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"--config {path} cannot be read: {_one_line(error)}.") from None
        if not isinstance(content, dict):
            raise UsageError(f"--config {path} should hold one mapping of flags to values.")
        return {str(key).replace("_", "-"): value for key, value in content.items()}


def parse_length(text: str) -> int | None:
    """A number of tokens as vLLM writes it: '32768', '32k' (32,000), '32K' (32,768).

    None for 'auto', -1 and anything else, which vLLM judges itself.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)([kKmMgGtT]?)\s*", text)
    if match is None or ("." in match[1] and match[2] not in ("k", "m", "g", "t")):
        return None
    return int(float(match[1]) * MULTIPLIERS[match[2]]) if match[2] else int(match[1])


def _object(value: Any, flag: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UsageError(f"--{flag} should be a JSON object: {error}.") from None
    if not isinstance(value, dict):
        raise UsageError(f"--{flag} should be a JSON object, not {json.dumps(value)}.")
    return value


def _updated(merged: dict[str, Any], path: str, text: str, flag: str) -> dict[str, Any]:
    if not path:
        return merge(merged, _object(text, flag))
    if path.endswith("+"):
        raise UsageError(f"--{flag}.{path} is not understood here: write --{flag} as JSON.")
    try:
        value = json.loads(text)
    except ValueError:
        value = parse_length(text) or text  # '32k' is a number there, too
    for key in reversed(path.split(".")):
        value = {key: value}
    return merge(merged, value)


def merge(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `update`, object by object."""
    merged = dict(base)
    for key, value in update.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def conflict(ours: dict[str, Any], theirs: dict[str, Any], within: str = "") -> str | None:
    """The dotted name of the first key to which both give different values; None without one."""
    for key, a in ours.items():
        b = theirs.get(key, a)
        if isinstance(a, dict) and isinstance(b, dict):
            if (deeper := conflict(a, b, f"{within}{key}.")) is not None:
                return deeper
        elif a != b:
            return f"{within}{key}"
    return None


def _one_line(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return " ".join(reason.split())
