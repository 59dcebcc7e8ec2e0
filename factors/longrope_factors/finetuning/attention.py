"""Causal attention that stays within each document of a packed sequence.

Each document, or a run of equally long ones, is one call of SDPA with is_causal, so no mask of
n x n is ever built, and a sequence of one document costs what it costs without packing. Positions
are not looked at: where they jump within a document, its tokens see those before the jump.
"""

import itertools
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from longrope_factors.factor_file.errors import UsageError

_NAME = "longrope_documents"


def use_in(model: Any) -> None:
    """Make `model` read the keyword `document_lengths` of its forward pass.

    Raises UsageError for a model whose own attention is not causal over all of the sequence.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    # Models with layer_types say there whether a window is in use; older ones by its number.
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
    """Query, key and value [1, heads, n, d]; gives [1, n, heads, d]."""
    if len(document_lengths) < 2:
        return sdpa_attention_forward(module, query, key, value, None, **kwargs)
    # Neighbours of one length are a batch: many short windows would else be as many small calls.
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
