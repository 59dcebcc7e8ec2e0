"""The loss of each token, without logits of n x vocabulary."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK = 1024


class Lesson(NamedTuple):
    """A teacher's last hidden states [n, h], and which tokens are taught by its predictions [n]."""

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

    Where a `lesson` says so it is the divergence from the teacher's predictions instead. Logits
    exist for `chunk` positions at a time, in the backward pass too, which makes them anew where
    there is more than one chunk.
    """

    def of_chunk(
        states: torch.Tensor, targets: torch.Tensor, *taught: torch.Tensor
    ) -> torch.Tensor:
        logits = head(states).float()
        losses = functional.cross_entropy(logits, targets, reduction="none")
        if not taught:
            return losses
        teacher, where = taught
        return torch.where(where, _divergence(logits, head(teacher).float()), losses)

    tensors = [hidden, labels, *(lesson or ())]
    if len(labels) <= chunk:
        return of_chunk(*tensors)
    chunks = zip(*(tensor.split(chunk) for tensor in tensors), strict=True)
    return torch.cat([checkpoint(of_chunk, *each, use_reentrant=False) for each in chunks])


def _divergence(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence in nats of predictions from the teacher's: [n, v] to [n]."""
    mine, theirs = logits.log_softmax(-1), teacher.log_softmax(-1)
    return functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(-1)


class Learner(torch.nn.Module):
    """A causal language model whose forward pass gives token losses; what accelerate wraps.

    Without labels it gives the last hidden states that a lesson is made of.

    Matrix products are in `dtype`, whatever the weights are in.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.config = model.config  # accelerate looks for sliding windows here
        self._no_split_modules = model._no_split_modules  # and FSDP for its units here
        self._dtype = dtype

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        labels: torch.Tensor | None,
        document_lengths: tuple[int, ...],
        lesson: Lesson | None = None,
    ) -> torch.Tensor:
        """Losses [n] in nats of a sequence whose token_ids, positions and labels are [1, n]."""
        with torch.autocast(token_ids.device.type, self._dtype, self._dtype != torch.float32):
            # Trained embeddings are float32; what the layers hand on need not be.
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
