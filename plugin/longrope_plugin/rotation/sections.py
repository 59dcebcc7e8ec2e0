"""Tokens with several positions (M-RoPE): which of them each pair of a head turns by.

Text has the same number in all of them; an image has time, height and width (Qwen2-VL, arXiv
2409.12191, section 2.1).
"""

from collections.abc import Mapping
from typing import Any


def sections(rope_parameters: Mapping[str, Any], rotary_dim: int) -> tuple[int, ...] | None:
    """The row of a token's positions for each pair [rotary_dim / 2]; None if tokens have only one.

    Sections lie one after the other or, with `mrope_interleaved` (Qwen3-VL), take turns: pair
    3i + 1 by height, 3i + 2 by width, as far as these reach, and the others by time. Raises
    ValueError, a sentence, if they do not add up to the pairs of a head.
    """
    lengths = rope_parameters.get("mrope_section")
    if lengths is None:
        return None
    pairs = rotary_dim // 2
    if sum(lengths) != pairs:
        raise ValueError(
            f"The model's config has mrope_section {list(lengths)}, which should add up to the "
            f"{pairs} pairs of dimensions that rotate."
        )
    if rope_parameters.get("mrope_interleaved"):
        return tuple(
            pair % 3 if pair < 3 * lengths[pair % 3] else 0  # row 0 takes what is left
            for pair in range(pairs)
        )
    return tuple(row for row, length in enumerate(lengths) for _ in range(length))
