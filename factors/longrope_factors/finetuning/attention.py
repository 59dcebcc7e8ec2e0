"""Causal attention that stays within each document of a packed sequence.

SDPA with is_causal is called once for each document, or for each run of documents of equal length.
So no n x n mask is ever built, and a sequence of one document costs the same as without packing.
Positions are ignored: if they jump within a document, its tokens still see those before the jump.
"""

import itertools
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from longrope_factors.factor_file.errors import UsageError

_NAME = "longrope_documents"


def use_in(model: Any) -> None:
    """Make `model` use the keyword `document_lengths` of its forward pass.

    Raises UsageError if the model's own attention is not causal over the whole sequence.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    # Models with layer_types say there whether the window is used; older ones use it if it is set.
    if kinds != {"full_attention"} or (not hasattr(config, "layer_types") and window is not None):
        raise UsageError(
            f"{type(model).__name__} attends in a sliding window of {window} tokens, which no "
            "factor set extends: sliding_window in its config.json should be null."
        )
    AttentionInterface.register(_NAME, _within_documents)
    model.set_attn_implementation(_NAME)


def _within_documents(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    document_lengths: tuple[int, ...] = (),
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of query, key and value [1, heads, n, d]; returns [1, n, heads, d]."""
    if len(document_lengths) < 2:
        return sdpa_attention_forward(module, query, key, value, None, **kwargs)
    # Neighbours of equal length form a batch, to avoid a small call for each short window.
    runs = [(length, len(list(group))) for length, group in itertools.groupby(document_lengths)]
    sizes = [length * count for length, count in runs]
    outputs = []
    for (length, count), *parts in zip(
        runs, *(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True
    ):
        stacked = [part[0].unflatten(1, (count, length)).transpose(0, 1) for part in parts]
        output = sdpa_attention_forward(module, *stacked, None, **kwargs)[0]
        outputs.append(output.flatten(0, 1)[None])
    return torch.cat(outputs, dim=1), None
