"""R's serialised objects: lists and vectors, enough to read a data package.

R Internals describes the format in section 1.8, 'Serialization Formats' (XDR, versions 2 and 3).
"""

import struct
from typing import Any

from longrope_factors.factor_file.errors import UsageError

_NIL, _GLOBAL_ENVIRONMENT, _REFERENCE = 254, 253, 255
_SYMBOL, _PAIRLIST, _CHARACTERS, _LOGICALS, _INTEGERS, _REALS, _STRINGS, _LIST = (
    1,
    2,
    9,
    10,
    13,
    14,
    16,
    19,
)
_HAS_ATTRIBUTES, _HAS_TAG = 1 << 9, 1 << 10


def unserialize(content: bytes) -> Any:
    """The object in `content`: lists with names become dicts, vectors become lists.

    Raises UsageError for another format and for types of objects that data packages do not need.
    """
    if content[:2] != b"X\n":
        raise UsageError("R data should be serialised as XDR, and begins otherwise.")
    return _Reader(content).whole()


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._offset = 2
        self._symbols: list[str] = []

    def whole(self) -> Any:
        version, _written_by, _readable_by = self._integers(3)
        if version == 3:
            self._take(self._integer())  # the native encoding's name
        return self._object()

    def _object(self) -> Any:
        flags = self._integer()
        kind = flags & 0xFF
        match kind:
            case _ if kind in (_NIL, _GLOBAL_ENVIRONMENT):
                return None
            case _ if kind == _REFERENCE:
                return self._symbols[(flags >> 8) - 1]
            case _ if kind == _SYMBOL:
                self._symbols.append(self._object())
                return self._symbols[-1]
            case _ if kind == _PAIRLIST:
                return self._pairlist(flags)
            case _ if kind == _CHARACTERS:
                length = self._integer()
                return None if length == -1 else self._take(length).decode("utf-8")
        return self._vector(kind, flags)

    def _pairlist(self, flags: int) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        while flags & 0xFF == _PAIRLIST:
            if flags & _HAS_ATTRIBUTES:
                self._object()
            tag = self._object() if flags & _HAS_TAG else str(len(pairs))
            pairs[tag] = self._object()
            flags = self._integer()
        return pairs

    def _vector(self, kind: int, flags: int) -> Any:
        length = self._integer()
        values: Any
        if kind in (_LOGICALS, _INTEGERS):
            values = self._integers(length)
        elif kind == _REALS:
            values = list(struct.unpack(f">{length}d", self._take(8 * length)))
        elif kind in (_STRINGS, _LIST):
            values = [self._object() for _ in range(length)]
        else:
            raise UsageError(f"R data holds an object of type {kind}, which is not read here.")
        attributes = self._object() if flags & _HAS_ATTRIBUTES else {}
        return dict(zip(attributes["names"], values, strict=True)) if attributes else values

    def _integer(self) -> int:
        return self._integers(1)[0]

    def _integers(self, count: int) -> list[int]:
        return list(struct.unpack(f">{count}i", self._take(4 * count)))

    def _take(self, count: int) -> bytes:
        taken = self._content[self._offset : self._offset + count]
        if len(taken) != count:
            raise UsageError("R data ends in the middle of an object.")
        self._offset += count
        return taken
