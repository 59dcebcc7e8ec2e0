"""The file of `--api-key-file`: one key a line, hashed.

    # name   SHA-256 of the key   quotas and other limits, each optional
    alice    sha256:2bb80d537b1d...   requests_per_minute=60 tokens_per_minute=1000000 in_flight=4
    bob      sha256:81b637d8fcd2...   longest_prompt=8192 models=phi expires=2027-01-31 priority=5

A key is 256 random bits (`longrope key new` makes one), which nobody can guess. So one round of
SHA-256 is enough.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files import text_files

from longrope_server.errors import UsageError

PREFIX = "sha256:"
NOBODY = "-"  # the name that stands for requests without a key


@dataclass(frozen=True)
class Quota:
    """What one key may use; None is no limit. in_flight: requests at once."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True)
class Key:
    """One line of the file. digest: 32 bytes.

    longest_prompt: in tokens; None is no limit. models: the names that may be asked for; all if
    there are none. expires: the last day, in UTC. priority: as vLLM's, the lowest is served first.
    """

    name: str
    digest: bytes = field(repr=False)
    quota: Quota = Quota()
    longest_prompt: int | None = None
    models: tuple[str, ...] = ()
    expires: date | None = None
    priority: int = 0

    @property
    def has_expired(self) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and datetime.now(UTC).date() > self.expires


def digest_of(token: str) -> bytes:
    """The form in which a key is stored and compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def line_of(key: Key) -> str:
    """The line of the file that `read` reads as this key.

    Raises UsageError, naming what is wrong, if there is none.
    """
    quotas = [
        f"{limit.name}={value}"
        for limit in fields(Quota)
        if (value := getattr(key.quota, limit.name)) is not None
    ]
    others = {
        "longest_prompt": key.longest_prompt,
        "models": ",".join(key.models),
        "expires": key.expires,
        "priority": key.priority,
    }
    words = [*quotas, *(f"{name}={value}" for name, value in others.items() if value)]
    line = " ".join([key.name, PREFIX + key.digest.hex(), *words])
    if _parsed(_words(line), "The new key") != key or not line.isprintable():
        raise UsageError("The new key: names of models should be without '#' and spaces.")
    return line


def load(path: Path, has_priorities: bool = True) -> list[Key]:
    """The keys of a file, at least one. Raises UsageError, naming file, line and what is wrong.

    has_priorities: whether the engine's scheduler heeds priorities; if not, no key may have one.
    """
    if not (keys := read(path, has_priorities)):
        raise UsageError(f"The key file {path} holds no key: add one with `longrope key new`.")
    return keys


def read(path: Path, has_priorities: bool = True) -> list[Key]:
    """The keys of a file that may have none. Raises UsageError as `load` does."""
    try:
        text = text_files.decoded(path, path.read_bytes())
    except FactorFileError as error:
        raise UsageError(f"The key file {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"The key file {path} cannot be read: {reason}.") from None
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if words := _words(line):
            keys.append(_parsed(words, f"{path}, line {number}"))
    for attribute in ("name", "digest"):
        seen: set[object] = set()
        for key in keys:
            if (value := getattr(key, attribute)) in seen:
                raise UsageError(f"The key file {path} has {key.name!r} twice ({attribute}).")
            seen.add(value)
    names = [key.name for key in keys if key.priority]
    if names and not has_priorities:
        raise UsageError(
            f"The key file {path} gives {names[0]!r} a priority, which the engine would not heed: "
            "serve with --scheduling-policy priority."
        )
    return keys


def _words(line: str) -> list[str]:
    """The words of a line, without a comment."""
    return line.partition("#")[0].split()


def _count(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise UsageError("a whole number of 1 or more")
    return int(text)


def _priority(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise UsageError("a whole number, the lowest served first")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    if not all(names := tuple(text.split(","))):
        raise UsageError("names of models with commas between them")
    return names


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise UsageError("a day as YYYY-MM-DD, the last one in UTC") from None


_QUOTAS = [limit.name for limit in fields(Quota)]
# Each raises UsageError with what a value should be.
_VALUES: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_QUOTAS, _count),
    "longest_prompt": _count,
    "models": _names,
    "expires": _day,
    "priority": _priority,
}


def _parsed(words: list[str], place: str) -> Key:
    name, *rest = words
    if not rest or not re.fullmatch(PREFIX + "[0-9a-fA-F]{64}", rest[0]):
        raise UsageError(
            f"{place}: a name should be followed by {PREFIX} and the 64 hexadecimal digits of the "
            "key's hash, as `longrope key new` writes it."
        )
    if name == NOBODY:
        raise UsageError(f"{place}: {NOBODY} stands for requests without a key: use another name.")
    key = Key(name, bytes.fromhex(rest[0].removeprefix(PREFIX)))
    seen = set()
    for word in rest[1:]:
        field_name, _, value = word.partition("=")
        if field_name not in _VALUES:
            raise UsageError(
                f"{place}: a limit should be one of {', '.join(_VALUES)}, with =VALUE."
            )
        if field_name in seen:
            raise UsageError(f"{place}: {field_name} is there twice: it should be given once.")
        seen.add(field_name)
        try:
            parsed = _VALUES[field_name](value)
        except UsageError as error:
            raise UsageError(f"{place}: {field_name} should be {error}.") from None
        if field_name in _QUOTAS:
            key = replace(key, quota=replace(key.quota, **{field_name: parsed}))
        else:
            key = replace(key, **{field_name: parsed})
    return key


class Keys:
    """The keys that are valid at this moment."""

    def __init__(self, keys: list[Key]) -> None:
        self.keys = keys

    def find(self, token: str) -> Key | None:
        """The key that `token` is, or None. Takes the same time in every case."""
        digest = digest_of(token)
        matching_key = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                matching_key = key
        return matching_key

    def replace(self, keys: list[Key]) -> set[str]:
        """Replaces the keys; returns the names of those that are no longer valid."""
        kept = {(key.name, key.digest) for key in keys}
        revoked = {key.name for key in self.keys if (key.name, key.digest) not in kept}
        self.keys = keys
        return revoked
