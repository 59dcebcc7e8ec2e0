"""Perplexity of a Hugging Face causal language model under any factor set."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorSet, ModelIdentity
from longrope_factors.models.rotation import rotated_by


def perplexity(
    model: Any,
    token_ids: Sequence[int],
    factor_set: FactorSet | None,
    identity: ModelIdentity,
    chunk: int,
    on_layer: Callable[[], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Negative log-likelihood, in nats, of each token but the first: shape [n - 1].

    All of `token_ids` is one window. If `factor_set` is None, the model rotates as its config says.
    Logits exist for `chunk` positions at a time, so memory does not grow with n x vocabulary.
    `on_layer` is called after each decoder layer. Raises UsageError if the model changes its logits
    after the output embedding.
    """
    n = len(token_ids)
    return sliding(model, token_ids, factor_set, identity, chunk, n, n, on_layer)


def sliding(
    model: Any,
    token_ids: Sequence[int],
    factor_set: FactorSet | None,
    identity: ModelIdentity,
    chunk: int,
    window: int,
    stride: int,
    on_layer: Callable[[], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Losses as from `perplexity`, shape [n - 1], with at most `window` tokens in view.

    The first `window` tokens are one sequence. Each later sequence ends `stride` tokens further and
    gives the losses of its new tokens, so that each of them has at least window - stride tokens
    before it (Press et al., arXiv 2108.12409; YaRN, arXiv 2309.00071, evaluates in this way with a
    stride of 256). Positions start at 0 in each sequence. The stride must be less than the window,
    unless the window is the whole text.
    """
    ids = torch.tensor(list(token_ids), device=model.device)
    losses: list[torch.Tensor] = []
    with torch.inference_mode(), _rotation(model, factor_set, identity):
        head = checked_head(model, ids[:4])
        for start, first, end in windows(len(token_ids), window, stride):
            hidden = _last_hidden(model, ids[start:end], on_layer)
            losses.extend(_losses(head, hidden, ids[start:end], first - start, chunk))
    return torch.cat(losses).double().cpu().numpy()


def windows(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Start, first scored token and end of each window over `length` tokens, in order.

    The last window is as long as the others and ends with the text. Token 0 is never scored.
    """
    first, end = 1, min(window, length)
    yield 0, first, end
    while end < length:
        first, end = end, min(end + stride, length)
        yield end - window, first, end


def logits_from(
    model: Any,
    token_ids: Sequence[int],
    start: int,
    factor_set: FactorSet | None,
    identity: ModelIdentity,
    on_layer: Callable[[], None] | None = None,
) -> torch.Tensor:
    """The float32 logits after each token from `start` on, shape [n - start, vocab].

    Raises UsageError as `perplexity` does.
    """
    ids = torch.tensor(list(token_ids), device=model.device)
    with torch.inference_mode(), _rotation(model, factor_set, identity):
        head = checked_head(model, ids[:4])
        logits: torch.Tensor = head(_last_hidden(model, ids, on_layer)[start:]).float()
    return logits


def of_losses(losses: npt.NDArray[np.float64], last: int | None = None) -> float:
    """Perplexity of per-token losses in nats: of all, or of the last `last` ones."""
    return math.exp(float(np.mean(losses if last is None else losses[-last:])))


def _rotation(
    model: Any, factor_set: FactorSet | None, identity: ModelIdentity
) -> contextlib.AbstractContextManager[None]:
    if factor_set is None:
        return contextlib.nullcontext()
    return rotated_by(model, factor_set, identity)


def _last_hidden(
    model: Any, ids: torch.Tensor, on_layer: Callable[[], None] | None
) -> torch.Tensor:
    with counting_layers(model, on_layer):
        hidden: torch.Tensor = model.base_model(ids[None], use_cache=False).last_hidden_state[0]
    return hidden


def _losses(
    head: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    ids: torch.Tensor,
    first: int,
    chunk: int,
) -> Iterator[torch.Tensor]:
    for start in range(first, len(ids), chunk):
        end = min(start + chunk, len(ids))
        logits = head(hidden[start - 1 : end - 1]).float()
        yield torch.nn.functional.cross_entropy(logits, ids[start:end], reduction="none")


@contextlib.contextmanager
def counting_layers(model: Any, on_layer: Callable[[], None] | None) -> Iterator[None]:
    """While open, `on_layer` is called after each decoder layer of `model`."""
    hooks = []
    if on_layer is not None:
        hooks = [
            layer.register_forward_hook(lambda *_: on_layer()) for layer in model.base_model.layers
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def checked_head(model: Any, ids: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The output embedding of `model`, which maps hidden states [n, d] to logits [n, vocab].

    Compares its logits with the model's for `ids`, a few tokens. Raises UsageError if the model
    changes its logits after the output embedding.
    """
    head: Callable[[torch.Tensor], torch.Tensor] = model.get_output_embeddings()
    theirs = model(ids[None], use_cache=False).logits[0]
    ours = head(_last_hidden(model, ids, None))
    if not torch.allclose(theirs.float(), ours.float(), rtol=1e-2, atol=1e-2):
        raise UsageError(
            f"{type(model).__name__} changes its logits after the output embedding, "
            "which measuring in chunks does not repeat."
        )
    return head
