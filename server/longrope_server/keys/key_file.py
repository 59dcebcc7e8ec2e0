"""The file of `--api-key-file`: one key a line, hashed.

    # name   SHA-256 of the key   quotas, each optional
    alice    sha256:2bb80d537b1d...   requests_per_minute=60 tokens_per_minute=1000000 in_flight=4

A key is 256 random bits (`longrope key new` makes one), which nobody can guess. So one round of
SHA-256 is enough.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files import text_files

from longrope_server.errors import UsageError

PREFIX = "sha256:"


@dataclass(frozen=True)
class Quota:
    """What one key may use; None is no limit. in_flight: requests at once."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True)
class Key:
    """One line of the file. digest: 32 bytes."""

    name: str
    digest: bytes = field(repr=False)
    quota: Quota = Quota()


def digest_of(token: str) -> bytes:
    """The form in which a key is stored and compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def line_of(key: Key) -> str:
    """The line of the file that `parse` reads as this key."""
    quotas = (
        f"{limit.name}={value}"
        for limit in fields(Quota)
        if (value := getattr(key.quota, limit.name)) is not None
    )
    return " ".join([key.name, PREFIX + key.digest.hex(), *quotas])


def load(path: Path) -> list[Key]:
    """The keys of a file, at least one. Raises UsageError, naming file, line and what is wrong."""
    if not (keys := read(path)):
        raise UsageError(f"The key file {path} holds no key: add one with `longrope key new`.")
    return keys


def read(path: Path) -> list[Key]:
    """The keys of a file that may have none yet. Raises UsageError as `load` does."""
    try:
        text = text_files.decoded(path, path.read_bytes())
    except FactorFileError as error:
        raise UsageError(f"The key file {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"The key file {path} cannot be read: {reason}.") from None
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.partition("#")[0].split():
            keys.append(_parsed(words, f"{path}, line {number}"))
    for attribute in ("name", "digest"):
        seen: set[object] = set()
        for key in keys:
            if (value := getattr(key, attribute)) in seen:
                raise UsageError(f"The key file {path} has {key.name!r} twice ({attribute}).")
            seen.add(value)
    return keys


def _parsed(words: list[str], place: str) -> Key:
    name, *rest = words
    if not rest or not re.fullmatch(PREFIX + "[0-9a-fA-F]{64}", rest[0]):
        raise UsageError(
            f"{place}: a name should be followed by {PREFIX} and the 64 hexadecimal digits of the "
            "key's hash, as `longrope key new` writes it."
        )
    quota = Quota()
    known = [limit.name for limit in fields(Quota)]
    for word in rest[1:]:
        field_name, _, value = word.partition("=")
        if field_name not in known:
            raise UsageError(f"{place}: a quota should be one of {', '.join(known)}, with =NUMBER.")
        if not re.fullmatch("[1-9][0-9]{0,17}", value):
            raise UsageError(f"{place}: {field_name} should be a whole number of 1 or more.")
        quota = replace(quota, **{field_name: int(value)})
    return Key(name, bytes.fromhex(rest[0].removeprefix(PREFIX)), quota)


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
