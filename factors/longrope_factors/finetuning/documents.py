"""The documents that a fine-tune reads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longrope_factors.schema import CorpusText

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, and the files that they came from."""

    documents: tuple[Tokens, ...]
    texts: tuple[CorpusText, ...]


def read(paths: Sequence[Path], tokenizer: Any, separator: str | None, least: int) -> Corpus:
    """The documents of all files: each file is one, or several with `separator` between them.

    Raises ValueError, naming the file, where one is no UTF-8 text, and where no document has
    `least` tokens.
    """
    documents: list[Tokens] = []
    texts = []
    for path in paths:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8 text (byte {error.start}).") from None
        texts.append(CorpusText(name=path.stem, sha256=hashlib.sha256(content).hexdigest()))
        for document in [text] if separator is None else text.split(separator):
            documents.append(np.asarray(tokenizer(document)["input_ids"], np.int32))
    longest = max(map(len, documents))
    if longest < least:
        raise ValueError(
            f"The longest document of --corpus has {longest} tokens; at least one should have the "
            f"{least} of --length."
        )
    return Corpus(tuple(documents), tuple(texts))
