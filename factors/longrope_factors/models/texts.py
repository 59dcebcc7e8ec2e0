"""Texts as tokens, for searches, evaluations and fine-tunes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import text_files
from longrope_factors.models import tokenizers


@dataclass(frozen=True)
class Text:
    """A corpus text and its tokens under the model's tokenizer."""

    name: str
    sha256: str
    token_ids: list[int]


def read(paths: Sequence[Path], model_dir: Path, least: int) -> list[Text]:
    """Tokenize each file with the tokenizer in `model_dir`; `sha256` is that of the file's bytes.

    Raises UsageError, naming the file, if it is not UTF-8 text or has fewer than `least` tokens.
    """
    if not paths:
        raise UsageError("No text was given: --corpus should name at least one UTF-8 file.")
    contents = [content(path) for path in paths]
    tokenizer = tokenizers.of(model_dir)
    return [
        _tokenized(path, text, sha256, tokenizer, least)
        for path, (text, sha256) in zip(paths, contents, strict=True)
    ]


def content(path: Path) -> tuple[str, str]:
    """A file's text without a byte order mark, and the SHA-256 of its bytes.

    Raises FactorFileError, naming the file, if it is not UTF-8.
    """
    encoded = path.read_bytes()
    return text_files.decoded(path, encoded), hashlib.sha256(encoded).hexdigest()


def _tokenized(path: Path, text: str, sha256: str, tokenizer: Any, least: int) -> Text:
    token_ids = tokenizer(text)["input_ids"]
    if len(token_ids) < least:
        raise UsageError(f"{path}: has {len(token_ids)} tokens; {least} are needed.")
    return Text(text_files.readable(path.stem), sha256, token_ids)
