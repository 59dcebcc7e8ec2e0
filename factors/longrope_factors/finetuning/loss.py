"""The loss of each token, without logits of n x vocabulary."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
UNTRAINED = -100  # the label of a token without loss, as in torch and transformers


class Lesson(NamedTuple):
    """A teacher's last hidden states [n, h], and which tokens [n] its predictions teach."""

    hidden: torch.Tensor
    where: torch.Tensor


def token_losses(
    hidden: torch.Tensor,
    labels: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    lesson: Lesson | None = None,
    chunk: int = CHUNK,
) -> torch.Tensor:
    """Negative log-likelihood in nats of `labels` [n] given last hidden states [n, h]: [n].

    For the tokens that a `lesson` teaches, it is the divergence from the teacher's predictions
    instead; for UNTRAINED ones it is 0. Logits exist for `chunk` of the other tokens at a time,
    also in the backward pass, which recomputes them if there is more than one chunk.
    """

    def likelihoods(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(head(states).float(), targets, reduction="none")

    def divergences(states: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return _divergence(head(states).float(), head(teacher).float())

    losses = torch.zeros(len(labels), device=hidden.device)
    by_label = labels != UNTRAINED
    if lesson is not None:
        taught = torch.nonzero(by_label & lesson.where)[:, 0]
        by_label &= ~lesson.where
        pairs = hidden[taught], lesson.hidden[taught]
        losses = losses.index_put((taught,), _chunked(divergences, pairs, chunk))
    told = torch.nonzero(by_label)[:, 0]
    pairs = hidden[told], labels[told]
    return losses.index_put((told,), _chunked(likelihoods, pairs, chunk))


def _chunked(
    function: Callable[..., torch.Tensor], tensors: tuple[torch.Tensor, ...], chunk: int
) -> torch.Tensor:
    """What `function` returns for `tensors` [m, ...]: [m], from `chunk` rows at a time."""
    if len(tensors[0]) <= chunk:
        return function(*tensors)
    parts = zip(*(tensor.split(chunk) for tensor in tensors), strict=True)
    return torch.cat([checkpoint(function, *part, use_reentrant=False) for part in parts])


def _divergence(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence in nats of predictions from the teacher's: [n, v] to [n]."""
    mine, theirs = logits.log_softmax(-1), teacher.log_softmax(-1)
    return functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(-1)


class Learner(torch.nn.Module):
    """A causal language model whose forward pass returns token losses; accelerate wraps it.

    Without labels, it returns the last hidden states, of which lessons are made. Matrix products
    are computed in `dtype`, whatever dtype the weights have.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.config = model.config  # accelerate looks for sliding windows here
        self._no_split_modules = model._no_split_modules  # FSDP looks for its units here
        self._dtype = dtype

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        labels: torch.Tensor | None,
        document_lengths: tuple[int, ...],
        lesson: Lesson | None = None,
    ) -> torch.Tensor:
        """Losses [n] in nats of a sequence; token_ids, positions and labels are [1, n].

        Tokens whose label is UNTRAINED have none.
        """
        with torch.autocast(token_ids.device.type, self._dtype, self._dtype != torch.float32):
            # Trained embeddings are float32, but hidden states need not be.
            embedded = self.model.get_input_embeddings()(token_ids).to(self._dtype)
            hidden = self.model.base_model(
                inputs_embeds=embedded,
                position_ids=positions,
                use_cache=False,
                document_lengths=document_lengths,
            ).last_hidden_state[0]
            if labels is None:
                return hidden
            return token_losses(hidden, labels[0], self.model.get_output_embeddings(), lesson)
