"""Perplexity of a Hugging Face causal language model under any factor set."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longrope_factors.reference import angles
from longrope_factors.schema import FactorSet, ModelIdentity


class ExactRotary(torch.nn.Module):
    """Stands in for a model's rotary module: cos and sin of float64 angles under one set.

    Gives cos and sin of shape [batch, n, d] in the dtype of the hidden states, each pair's
    angle in both halves, as Llama and its relatives expect.
    """

    def __init__(self, factor_set: FactorSet, identity: ModelIdentity) -> None:
        super().__init__()
        self._factor_set = factor_set
        self._identity = identity

    def forward(
        self, hidden: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cos and sin, [batch, n, d], at `position_ids`, [batch, n]; of `hidden`, the dtype."""
        rows = [angles(row, self._factor_set, self._identity) for row in position_ids.cpu().numpy()]
        half = torch.from_numpy(np.stack(rows))
        angle = torch.cat((half, half), dim=-1)
        scale = self._factor_set.attention_factor
        cos, sin = angle.cos() * scale, angle.sin() * scale
        return cos.to(hidden.device, hidden.dtype), sin.to(hidden.device, hidden.dtype)


@contextlib.contextmanager
def rotated_by(
    model: torch.nn.Module, factor_set: FactorSet, identity: ModelIdentity
) -> Iterator[None]:
    """While open, `model` rotates by `factor_set`.

    Raises ValueError for a model whose rotary module is missing, or lays its angles out otherwise.
    """
    owner, name, theirs = _rotary_module(model)
    _check_layout(theirs, identity)
    setattr(owner, name, ExactRotary(factor_set, identity))
    try:
        yield
    finally:
        setattr(owner, name, theirs)


def perplexity(
    model: Any,
    token_ids: Sequence[int],
    factor_set: FactorSet | None,
    identity: ModelIdentity,
    chunk: int,
    on_layer: Callable[[], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Negative log-likelihood, in nats, of each token but the first: shape [n - 1].

    All of `token_ids` is one window. With factor_set None the model rotates as its config says.
    Logits exist for `chunk` positions at a time, so memory does not grow with n x vocabulary.
    `on_layer` is called after each decoder layer. Raises ValueError where the model's logits are
    more than its output embedding times its last hidden state.
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
    """As `perplexity`, shape [n - 1], with no more than `window` tokens in view.

    The first `window` tokens are one sequence; each later one ends `stride` tokens further and
    gives the losses of the tokens that are new in it, so that every one of them has at least
    window - stride tokens before it (Press et al., arXiv 2108.12409; so evaluated in YaRN, arXiv
    2309.00071, with a stride of 256). Positions start at 0 in each sequence. The stride is less
    than the window, unless the window is the whole text.
    """
    ids = torch.tensor(list(token_ids), device=model.device)
    losses: list[torch.Tensor] = []
    with torch.inference_mode(), _rotation(model, factor_set, identity):
        head = _checked_head(model, ids[:4])
        for start, first, end in windows(len(token_ids), window, stride):
            hidden = _last_hidden(model, ids[start:end], on_layer)
            losses.extend(_losses(head, hidden, ids[start:end], first - start, chunk))
    return torch.cat(losses).double().cpu().numpy()


def windows(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Start, first scored token and end of each window that reads `length` tokens in turn.

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
    """What the model says after each token from `start` on: float32 logits, [n - start, vocab].

    Raises ValueError as `perplexity` does.
    """
    ids = torch.tensor(list(token_ids), device=model.device)
    with torch.inference_mode(), _rotation(model, factor_set, identity):
        head = _checked_head(model, ids[:4])
        logits: torch.Tensor = head(_last_hidden(model, ids, on_layer)[start:]).float()
    return logits


def of_losses(losses: npt.NDArray[np.float64], last: int | None = None) -> float:
    """Perplexity of per-token losses in nats: of all of them, or of the `last` ones."""
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
    with _counting_layers(model, on_layer):
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
def _counting_layers(model: Any, on_layer: Callable[[], None] | None) -> Iterator[None]:
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


def _rotary_module(model: torch.nn.Module) -> tuple[torch.nn.Module, str, torch.nn.Module]:
    found = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "rotary_emb"]
    if len(found) != 1:
        raise ValueError(
            f"{type(model).__name__} has {len(found)} modules named rotary_emb; "
            "a factor set needs exactly one to stand in for."
        )
    owner, _, name = found[0].rpartition(".")
    return model.get_submodule(owner), name, model.get_submodule(found[0])


def _check_layout(rotary: torch.nn.Module, identity: ModelIdentity) -> None:
    # Three positions tell whether each angle stands in both halves, or elsewhere.
    cos, _ = rotary(torch.zeros(1, 3, 1, dtype=torch.float32), torch.arange(3)[None])
    first, second = cos.chunk(2, dim=-1)
    if cos.shape[-1] != identity.rotary_dim or not torch.equal(first, second):
        raise ValueError(
            f"{type(rotary).__name__} gives {cos.shape[-1]} angles a position, but rotary_dim "
            f"{identity.rotary_dim} in two equal halves is what a factor set can stand in for."
        )


def _checked_head(model: Any, ids: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    # The output embedding, once four tokens have shown that nothing comes after it.
    head: Callable[[torch.Tensor], torch.Tensor] = model.get_output_embeddings()
    theirs = model(ids[None], use_cache=False).logits[0]
    ours = head(_last_hidden(model, ids, None))
    if not torch.allclose(theirs.float(), ours.float(), rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the output embedding, "
            "which perplexity in chunks does not repeat."
        )
    return head
