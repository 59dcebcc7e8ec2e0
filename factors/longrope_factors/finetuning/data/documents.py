"""The documents that a fine-tune reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.factor_file.schema import CorpusText
from longrope_factors.models.texts import content

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, and the files that they came from."""

    documents: tuple[Tokens, ...]
    texts: tuple[CorpusText, ...]

    def has(self, sha256: str) -> bool:
        """Whether one of the files has the content with this hash."""
        return sha256 in {text.sha256 for text in self.texts}


def read(paths: Sequence[Path], tokenizer: Any, separator: str | None, least: int) -> Corpus:
    """The documents of all files; a file is one document, or several between `separator`s.

    Raises UsageError if a file, which it names, is not UTF-8 text, or if no document has `least`
    tokens.
    """
    documents: list[Tokens] = []
    texts = []
    for path in paths:
        text, sha256 = content(path)
        texts.append(CorpusText(name=text_files.readable(path.stem), sha256=sha256))
        for document in [text] if separator is None else text.split(separator):
            documents.append(np.asarray(tokenizer(document)["input_ids"], np.int32))
    longest = max(map(len, documents))
    if longest < least:
        raise UsageError(
            f"The longest document of --corpus has {longest} tokens; at least one should have the "
            f"{least} of --length."
        )
    return Corpus(tuple(documents), tuple(texts))
