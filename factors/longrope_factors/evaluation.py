"""Evaluations of factor sets on texts, one JSON line each, resumable."""

import datetime
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from longrope_factors import __version__
from longrope_factors.loading import LoadedModel
from longrope_factors.schema import FactorSet
from longrope_factors.texts import Text

LAST_TOKENS = 1024
_CHUNK = 1024


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of one model on the first `length` tokens of one text, under one factor set."""

    model: str
    weights_sha256: str
    corpus: str
    corpus_sha256: str
    length: int
    method: str
    fingerprint: str
    perplexity: float
    perplexity_last_1024: float
    seconds: float
    date: str
    tool_version: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What makes an evaluation the same one: weights, text, length and rotation."""
        return self.weights_sha256, self.corpus_sha256, self.length, self.fingerprint


def evaluate(
    loaded: LoadedModel,
    text: Text,
    length: int,
    method: str,
    factor_set: FactorSet,
    on_layer: Callable[[], None],
) -> Evaluation:
    """Perplexity over the first `length` tokens of `text`, and over their last 1,024."""
    from longrope_factors import perplexity  # torch: not for those who only read results

    started = time.monotonic()
    losses = perplexity.perplexity(
        loaded.model, text.token_ids[:length], factor_set, loaded.identity, _CHUNK, on_layer
    )
    return Evaluation(
        model=loaded.identity.name,
        weights_sha256=loaded.weights_sha256,
        corpus=text.name,
        corpus_sha256=text.sha256,
        length=length,
        method=method,
        fingerprint=factor_set.fingerprint,
        perplexity=perplexity.of_losses(losses),
        perplexity_last_1024=perplexity.of_losses(losses, LAST_TOKENS),
        seconds=round(time.monotonic() - started, 1),
        date=datetime.date.today().isoformat(),
        tool_version=__version__,
    )


def finished(path: Path) -> list[Evaluation]:
    """The evaluations in a results file; none where there is no file.

    A last line that a killed run left unfinished is cut off. Raises ValueError, naming the
    line, for anything else that is not an evaluation.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        path.write_text("".join(lines), encoding="utf-8")
    names = {field.name for field in fields(Evaluation)}
    evaluations = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.keys() != names:
            raise ValueError(f"{path}: line {number} is not an evaluation of this version.")
        evaluations.append(Evaluation(**record))
    return evaluations


def append(path: Path, evaluation: Evaluation) -> None:
    """Add one line to a results file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(evaluation)) + "\n")
