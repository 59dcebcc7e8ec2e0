"""The loss of each token, without logits of n x vocabulary."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK = 1024


def token_losses(
    hidden: torch.Tensor,
    labels: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    chunk: int = CHUNK,
) -> torch.Tensor:
    """Negative log-likelihood in nats of `labels` [n] given last hidden states [n, h]: [n].

    Logits exist for `chunk` positions at a time, in the backward pass too, which makes them anew
    where there is more than one chunk.
    """

    def of_chunk(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="none")

    if len(labels) <= chunk:
        return of_chunk(hidden, labels)
    chunks = zip(hidden.split(chunk), labels.split(chunk), strict=True)
    return torch.cat([checkpoint(of_chunk, *each, use_reentrant=False) for each in chunks])


class Learner(torch.nn.Module):
    """A causal language model whose forward pass gives token losses; what accelerate wraps.

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
        labels: torch.Tensor,
        document_lengths: tuple[int, ...],
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
            return token_losses(hidden, labels[0], self.model.get_output_embeddings())
