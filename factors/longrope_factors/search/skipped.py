"""The loss of short windows with skipped positions, which stand in for a long text."""

import numpy as np
import numpy.typing as npt
import torch

from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.finetuning import attention
from longrope_factors.models.loading import LoadedModel
from longrope_factors.models.perplexity import checked_head
from longrope_factors.models.rotation import rotated_by
from longrope_factors.search.documents import Document

_AT_ONCE = 4096  # tokens


def losses(
    loaded: LoadedModel, document: Document, factor_set: FactorSet
) -> npt.NDArray[np.float64]:
    """Negative log-likelihood, in nats, of every token of the windows except each one's first."""
    assert document.positions is not None
    model, window = loaded.model, len(document.positions[0])
    ids = torch.tensor(document.token_ids, device=model.device)
    positions = torch.tensor(document.positions, device=model.device).flatten()
    # Other attentions would start a new document where positions jump.
    attention.use_in(model, int(positions.max()) + 1)
    window_losses = []
    size = max(_AT_ONCE // window, 1) * window
    with torch.inference_mode(), rotated_by(model, factor_set, loaded.identity):
        head = checked_head(model, ids[:4])
        for some, places in zip(ids.split(size), positions.split(size), strict=True):
            hidden = model.base_model(
                some[None],
                position_ids=places[None],
                use_cache=False,
                document_lengths=(window,) * (len(some) // window),
            ).last_hidden_state[0]
            for states, labels in zip(hidden.split(window), some.split(window), strict=True):
                logits = head(states[:-1]).float()
                loss = torch.nn.functional.cross_entropy(logits, labels[1:], reduction="none")
                window_losses.append(loss)
    return torch.cat(window_losses).double().cpu().numpy()
