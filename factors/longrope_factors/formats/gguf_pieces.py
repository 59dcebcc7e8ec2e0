"""A model in one GGUF file or in the pieces that llama.cpp's gguf-split and converter write.

A piece is named NAME-00001-of-00003.gguf, and its metadata says the same: split.no (from 0),
split.count and split.tensors.count (of all pieces together). Only the first piece has the model's
own metadata.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_factors.factor_file.errors import UsageError

PIECE = re.compile(r"(?P<name>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
SPLIT = "split."  # prefix of the metadata keys that describe a piece
_NO, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"


@dataclass(frozen=True)
class GgufModel:
    """The metadata and the tensors of all pieces, as the gguf package's reader gives them."""

    fields: Mapping[str, Any]
    tensors: tuple[Any, ...]
    alignment: int
    endianess: Any  # spelt as in the gguf package

    def value(self, key: str) -> Any:
        """The metadata's value for `key`; None if it has none."""
        return _value(self.fields, key)


def read(path: Path) -> GgufModel:
    """The model in `path`, together with the other pieces if `path` is one of several.

    Raises UsageError, naming the file, if it is not a GGUF file, or if a piece is missing, has
    another number in its metadata than in its name, or belongs to another model.
    """
    reader = _opened(path)
    count = _value(reader.fields, _COUNT) or 1
    named = PIECE.fullmatch(path.name)
    if named is None and count == 1:
        return GgufModel(reader.fields, tuple(reader.tensors), reader.alignment, reader.endianess)
    if named is None:
        raise UsageError(
            f"{path}: is one of {count} pieces by its split.count, but not by its name: call it "
            f"NAME-00001-of-{count:05}.gguf, with its own number, so that the others are found."
        )
    pieces = [
        path.with_name(f"{named['name']}-{number:05}-of-{named['count']}.gguf")
        for number in range(1, int(named["count"]) + 1)
    ]
    for piece in pieces:
        if not piece.exists():
            raise UsageError(
                f"{piece}: is missing; {path.name} is one of {len(pieces)} pieces, which should be "
                "in one folder."
            )
    readers = [_opened(piece) for piece in pieces]
    for number, (piece, piece_reader) in enumerate(zip(pieces, readers, strict=True)):
        _check(piece, piece_reader, number, len(pieces), readers[0])
    tensors = tuple(tensor for piece_reader in readers for tensor in piece_reader.tensors)
    total = _value(readers[0].fields, _TENSORS)
    if len(tensors) != total or len({tensor.name for tensor in tensors}) != total:
        raise UsageError(
            f"{path}: {len(pieces)} pieces have {len(tensors)} tensors together, but {_TENSORS} "
            f"says {total}, each with its own name: they are not of one model."
        )
    first = readers[0]
    return GgufModel(first.fields, tensors, first.alignment, first.endianess)


def _opened(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError) as error:
        raise UsageError(f"{path}: is not a GGUF file that can be read: {error}.") from None


def _check(piece: Path, reader: Any, number: int, count: int, first: Any) -> None:
    said = _value(reader.fields, _NO), _value(reader.fields, _COUNT)
    if None in said:
        raise UsageError(
            f"{piece}: is named as piece {number + 1} of {count}, but has no {_NO} and {_COUNT}: "
            "give it another name if it is a whole model."
        )
    if said != (number, count):
        raise UsageError(
            f"{piece}: is named as piece {number + 1} of {count}, but says that it is piece "
            f"{said[0] + 1} of {said[1]}: give it the name that it had."
        )
    same = reader.endianess == first.endianess
    for key in reader.fields.keys() & first.fields.keys():
        if key != _NO and not key.startswith("GGUF."):
            same = same and _value(reader.fields, key) == _value(first.fields, key)
    if not same:
        raise UsageError(f"{piece}: is a piece of another model than the first of its name.")


def _value(fields: Mapping[str, Any], key: str) -> Any:
    return fields[key].contents() if key in fields else None
