"""One evaluation of a search: a worker measures a factor set on a document."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.search.documents import Document

_CHUNK = 1024
# Digits of a loss that do not depend on the number of threads.
_DIGITS = 7
# The loss, in nats, of a candidate whose losses are not finite.
_HOPELESS = 100.0


@dataclass(frozen=True)
class Laboratory:
    """What a worker needs for measuring: the model's directory, the documents and the machine."""

    model_dir: Path
    documents: Sequence[Document]
    device: str | None
    dtype: str
    threads: int


class Worker:
    """A loaded model that measures factor sets."""

    def __init__(self, laboratory: Laboratory, number: int = 0) -> None:
        """Load the model; unless the device is one GPU, `number` selects the next in turn."""
        import torch

        from longrope_factors.models import loading

        torch.set_num_threads(laboratory.threads)
        device = laboratory.device
        if device in (None, "cuda") and (count := torch.cuda.device_count()):
            device = f"cuda:{number % count}"
        self._documents = laboratory.documents
        self._loaded = loading.load(laboratory.model_dir, device, laboratory.dtype)

    def loss(self, factor_set: FactorSet, document: int) -> float:
        """Mean negative log-likelihood, in nats, of the tokens that count in the document."""
        what = self._documents[document]
        if what.positions is not None:
            from longrope_factors.search import skipped

            losses = skipped.losses(self._loaded, what, factor_set)
        else:
            from longrope_factors.models.perplexity import perplexity

            losses = perplexity(
                self._loaded.model, what.token_ids, factor_set, self._loaded.identity, _CHUNK
            )
        if what.scored is not None:
            losses = losses[[position - 1 for position in what.scored]]
        mean = float(losses.mean())
        return float(f"{mean:.{_DIGITS}g}") if math.isfinite(mean) else _HOPELESS
