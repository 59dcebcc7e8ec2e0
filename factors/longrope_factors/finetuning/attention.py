"""Causal attention that stays within each document of a packed sequence.

No n x n mask is ever built. On a GPU one call of FlashAttention takes all documents (varlen_attn).
Elsewhere SDPA with is_causal is called once for each document, or for each run of documents of
equal length; on a GPU these calls would take longer to launch than to run.
Positions are ignored: if they jump within a document, its tokens still see those before the jump.
"""

import functools
import itertools
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import sight

_NAME = "longrope_documents"


def check(config: Any, tokens: int) -> None:
    """Raise UsageError if a model with this config has layers that do not see so many tokens."""
    if (which := sight.partial(config, tokens)) is not None:
        raise UsageError(
            f"{config.model_type}: the model has layers of {which}, which see less than {tokens} "
            "tokens, and no factor set extends that: in its config.json, sliding_window should be "
            "null, and layers of other kinds cannot be trained here."
        )


def use_in(model: Any, tokens: int) -> None:
    """Make `model` use the keyword `document_lengths` of its forward pass.

    Raises UsageError if its own attention is not causal over a sequence of `tokens` tokens.
    """
    check(model.config, tokens)
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
    if query.is_cuda and query.dtype != torch.float32 and not kwargs.get("dropout"):
        return _at_once(query, key, value, document_lengths, kwargs.get("scaling")), None
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


def _at_once(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    document_lengths: tuple[int, ...],
    scale: float | None,
) -> torch.Tensor:
    """Attention as `_within_documents` has it, in one call of FlashAttention."""
    from torch.nn.attention.varlen import varlen_attn

    groups = query.shape[1] // key.shape[1]
    packed = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    packed[1:] = [tensor.repeat_interleave(groups, dim=1) for tensor in packed[1:]]
    bounds, longest = _bounds(document_lengths, query.device), max(document_lengths)
    output = varlen_attn(
        *packed, bounds, bounds, longest, longest, scale=scale, window_size=(-1, 0)
    )
    assert isinstance(output, torch.Tensor)
    return output[None]


@functools.lru_cache(maxsize=2)
def _bounds(document_lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Where documents begin and the last ends [documents + 1]; all layers of a pass share it."""
    ends = torch.tensor([0, *itertools.accumulate(document_lengths)], dtype=torch.int32)
    return ends.to(device)
