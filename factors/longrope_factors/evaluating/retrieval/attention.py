"""Attention for a text that is read once: causal, or with a mask of few rows over all tokens.

No n x n mask is built, and keys and values are not repeated for the heads that share them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.models import sight

_NAME = "longrope_reading"
_ROWS = 1024  # rows of a mask at a time, for kernels that need one
_FLASH = (torch.float16, torch.bfloat16)


@contextlib.contextmanager
def used_in(model: Any, tokens: int) -> Iterator[None]:
    """While open, `model` uses this module's attention, over at most `tokens` tokens.

    Raises UsageError if some of the model's layers see fewer tokens.
    """
    _check(model, tokens)
    theirs = model.config._attn_implementation
    AttentionInterface.register(_NAME, _attend)
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(theirs)


def _check(model: Any, tokens: int) -> None:
    if (which := sight.partial(model.config, tokens)) is not None:
        raise UsageError(
            f"{type(model).__name__} has layers of {which}, which do not see a text of {tokens} "
            "tokens: retrieval is measured on models with full attention."
        )


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of query [1, heads, q, d] over key and value [1, kv_heads, n, d].

    Returns [1, q, heads, d]. The mask is [1, 1, q, n]; without one, attention is causal and the
    queries are the last q of the n tokens.
    """
    if attention_mask is None:
        seen = _causal(query, key, value, scaling)
    else:
        seen = _masked(query, key, value, attention_mask, scaling)
    return seen.transpose(1, 2).contiguous(), None


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    rows, n = query.shape[2], key.shape[2]
    options: dict[str, Any] = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    if rows == n:
        return scaled_dot_product_attention(query, key, value, is_causal=True, **options)
    if query.is_cuda and query.dtype in _FLASH:
        bias = causal_lower_right(rows, n)
        return scaled_dot_product_attention(query, key, value, attn_mask=bias, **options)
    parts = []
    for start in range(0, rows, _ROWS):
        few = query[:, :, start : start + _ROWS]
        end = n - rows + start + few.shape[2]
        mask = torch.ones(few.shape[2], end, dtype=torch.bool, device=query.device)
        mask = mask.tril(n - rows + start)
        parts.append(
            scaled_dot_product_attention(
                few, key[:, :, :end], value[:, :, :end], attn_mask=mask, **options
            )
        )
    return torch.cat(parts, dim=2)


def _masked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    # Heads that share a key become further rows of one head, because kernels with a mask would need
    # the keys repeated.
    _, heads, rows, size = query.shape
    kv_heads = key.shape[1]
    sharing = heads // kv_heads
    seen = scaled_dot_product_attention(
        query.reshape(1, kv_heads, sharing * rows, size),
        key,
        value,
        attn_mask=mask.repeat(1, 1, sharing, 1),
        scale=scaling,
    )
    return seen.reshape(1, heads, rows, size)
