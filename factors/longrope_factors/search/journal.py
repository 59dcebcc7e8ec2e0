"""The log of a search in JSON lines: every evaluation, which is all a search needs to resume.

A search depends only on its settings and on the losses that it measures. So a killed search resumes
by running again from the start with the losses in its log.
"""

import json
import math
from pathlib import Path
from typing import Any

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import json_lines
from longrope_factors.search.evolving.genome import Genome

JournalSettings = dict[str, Any]
_KEYS = {"genome", "document", "loss", "seconds", "factors", "start_tokens", "attention_factor"}
_Loss = tuple[str, int, float]  # of a genome, by its key, on a document


class Journal:
    """Losses by genome and document, each written to disk before it is used."""

    def __init__(self, path: Path, settings: JournalSettings, started: str) -> None:
        """Open or start the log at `path`.

        An unfinished last line of a killed search is cut off. Raises UsageError, naming what is
        wrong, if the log has other settings or a line that is not an evaluation.
        """
        self.path = path
        self.started = started
        self._header: dict[str, Any] | None = None
        self._losses: dict[tuple[str, int], float] = {}
        lines = json_lines.whole(path)
        if lines:
            self._check(_record(path, 1, lines[0]), settings)
            for number, line in enumerate(lines[1:], 2):
                genome, document, loss = _evaluation(path, number, line)
                self._losses[genome, document] = loss
        else:
            # Written with the first evaluation, so that an earlier failure leaves no file behind.
            self._header = {"search": settings, "started": started}
        if path.exists():
            json_lines.begin(path)

    def __len__(self) -> int:
        return len(self._losses)

    def loss(self, genome: Genome, document: int) -> float | None:
        """The logged loss, in nats; None if it has not been measured yet."""
        return self._losses.get((genome.key, document))

    def add(self, genome: Genome, document: int, loss: float, seconds: float) -> None:
        """Log one evaluation; `seconds` is the time since the previous result of any worker."""
        if self._header is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(self._header)
            self._header = None
        self._write(
            {
                "genome": genome.key,
                "document": document,
                "loss": loss,
                "seconds": round(seconds, 1),
                "factors": genome.factors,
                "start_tokens": genome.start_tokens,
                "attention_factor": genome.attention_factor,
            }
        )
        self._losses[genome.key, document] = loss

    def _write(self, record: dict[str, Any]) -> None:
        json_lines.append(self.path, json.dumps(record))

    def _check(self, header: dict[str, Any], settings: JournalSettings) -> None:
        logged, started = header.get("search"), header.get("started")
        if not isinstance(logged, dict) or not isinstance(started, str):
            raise UsageError(f"{self.path}: is not the log of a search.")
        # Through JSON, because the logged settings went through it (tuples became lists).
        wanted = json.loads(json.dumps(settings))
        # Versions up to 0.2.0 did not log the tokenizer.
        logged.setdefault("tokenizer_sha256", wanted.get("tokenizer_sha256"))
        # Some settings are recorded only if they are given, here or in the log.
        for name in {**wanted, **logged}:
            if logged.get(name) != wanted.get(name):
                raise UsageError(
                    f"{self.path}: is the log of a search whose {name} was "
                    f"{_short(logged.get(name))}, not {_short(wanted.get(name))}: use the same "
                    "settings, or name another file with -o."
                )
        self.started = started


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: line {number} is damaged: it is not a JSON object.")
    return record


def _evaluation(path: Path, number: int, line: bytes) -> _Loss:
    record = _record(path, number, line)
    match record:
        case {"genome": str(genome), "document": int(document), "loss": int() | float() as loss}:
            if record.keys() == _KEYS and math.isfinite(loss):
                return genome, document, float(loss)
    raise UsageError(f"{path}: line {number} is not an evaluation of a search.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."
