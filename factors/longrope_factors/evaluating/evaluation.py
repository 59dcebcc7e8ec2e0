"""Perplexity under factor sets, on whole documents or in sliding windows."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Strict

from longrope_factors.evaluating.contenders import Served
from longrope_factors.evaluating.measuring import Measurement, common_fields
from longrope_factors.evaluating.results import Result
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models.loading import LoadedModel
from longrope_factors.models.texts import Text

LAST_TOKENS = 1024
BUCKETS = 64
STRIDE = 256  # that of YaRN and LongRoPE
_CHUNK = 1024


class Evaluation(Result):
    """Perplexity of one model on the first `length` tokens of one text, under one factor set.

    The model sees `window` tokens at a time, `stride` of them new. A whole document is one window,
    and both are its length. `curve` has the mean loss in nats of each of up to 64 equal stretches
    of the text, from beginning to end: stretch b of B holds the tokens from b * length // B to
    (b + 1) * length // B - 1, without token 0, which nothing predicts.
    """

    corpus: str
    corpus_sha256: str
    window: int
    stride: int
    perplexity: float
    perplexity_last_1024: float
    curve: Annotated[tuple[float, ...], Strict(False)]

    @property
    def key(self) -> tuple[Any, ...]:
        """Weights and dtype, rotation, text, and how it is read."""
        return (
            *(self.weights_sha256, self.dtype, self.fingerprint, self.corpus_sha256),
            *(self.length, self.window, self.stride),
        )


def text_names(evaluations: Iterable[Evaluation]) -> dict[str, str]:
    """What to call each text, by its SHA-256: its name, and the hash if others have that name."""
    names = {evaluation.corpus_sha256: evaluation.corpus for evaluation in evaluations}
    texts = Counter(names.values())
    return {
        sha256: name if texts[name] == 1 else f"{name} ({sha256[:8]})"
        for sha256, name in names.items()
    }


def view(length: int, window: int | None, stride: int | None) -> tuple[int, int]:
    """Window and stride for a document of `length` tokens.

    Without `window`, or if it is not shorter than the document, the whole document is one window.
    The default stride is 256. Raises UsageError for a stride without a window, and for a stride
    that is not less than the window.
    """
    if window is None:
        if stride is not None:
            raise UsageError("--stride is the step of a sliding window: it needs --window.")
        return length, length
    if stride is not None and stride >= window:
        raise UsageError(
            f"--stride {stride} should be less than --window {window}, so that each token that is "
            "new in a window has one before it."
        )
    if length <= window:
        return length, length
    return window, stride or min(STRIDE, window - 1)


def measurement(
    weights_sha256: str,
    dtype: str,
    text: Text,
    length: int,
    view: tuple[int, int],
    served: Served,
) -> Measurement[Evaluation]:
    """The plan of one evaluation; `view` is its window and stride."""
    window, stride = view
    return Measurement(
        key=(
            *(weights_sha256, dtype, served.factor_set.fingerprint, text.sha256),
            *(length, window, stride),
        ),
        method=served.method,
        title=f"{text.name} {length} {served.method}",
        window=window,
        windows=1 + math.ceil((length - window) / stride),
        make=partial(evaluate, text, length, view, served.method, served.factor_set),
        adapter=served.adapter,
    )


def evaluate(
    text: Text,
    length: int,
    view: tuple[int, int],
    method: str,
    factor_set: FactorSet,
    loaded: LoadedModel,
    on_layer: Callable[[], None],
) -> Evaluation:
    """Perplexity over the first `length` tokens of `text`, and over their last 1,024.

    `view` is window and stride, both `length` for a whole document. `on_layer` is called after each
    decoder layer.
    """
    from longrope_factors.models import perplexity  # imports torch: not needed to read results

    started = time.monotonic()
    losses = perplexity.sliding(
        loaded.model,
        text.token_ids[:length],
        factor_set,
        loaded.identity,
        _CHUNK,
        *view,
        on_layer,
    )
    return Evaluation(
        **common_fields(loaded, factor_set, method, length, started),
        corpus=text.name,
        corpus_sha256=text.sha256,
        window=view[0],
        stride=view[1],
        perplexity=perplexity.of_losses(losses),
        perplexity_last_1024=perplexity.of_losses(losses, LAST_TOKENS),
        curve=curve(losses.tolist()),
    )


def curve(losses: Sequence[float]) -> tuple[float, ...]:
    """The mean loss of each of up to 64 equal stretches of a text, for `Evaluation.curve`.

    losses[t - 1] is the loss of token t, so a text of n tokens has n - 1 losses.
    """
    length = len(losses) + 1
    buckets = min(BUCKETS, length // 2)
    edges = [bucket * length // buckets for bucket in range(buckets + 1)]
    edges[0] = 1
    return tuple(
        math.fsum(losses[start - 1 : end - 1]) / (end - start) for start, end in pairwise(edges)
    )
