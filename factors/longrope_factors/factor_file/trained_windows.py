"""Windows of models whose configs state a longer one than they were trained with.

vLLM takes max_position_embeddings for the longest sequence that it serves. Some authors put the
window of training and room for an answer into it, and the extension ratio of their own documents
counts from the window of training.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class _Stated(NamedTuple):
    """What a config says of its rotation and its window."""

    model_type: str
    rope_theta: float
    max_position_embeddings: int


# Qwen3-0.6B to 32B, 30B-A3B and 235B-A22B, and QwQ-32B (a qwen2): trained with 32,768 tokens, and
# to be extended by YaRN with factor 4 and original_max_position_embeddings 32768 (their model
# cards). 40,960 is 32,768 tokens of answer and 8,192 of prompt (Qwen's documentation of vLLM). The
# releases of 2507 have another theta and were trained with what they state.
_TRAINED = {
    _Stated("qwen3", 1e6, 40960): 32768,
    _Stated("qwen3_moe", 1e6, 40960): 32768,
    _Stated("qwen2", 1e6, 40960): 32768,
}


def of(text: Mapping[str, Any], theta: float, stated: int) -> int:
    """The window that a model was trained with, in tokens.

    `text` is the config, `theta` its rope_theta and `stated` its max_position_embeddings, which is
    the result for every model that is not known to state more.
    """
    return _TRAINED.get(_Stated(str(text.get("model_type")), theta, stated), stated)
