"""Skipped positions: few tokens placed as if they lay in a long text.

PoSE, arXiv 2309.10400, section 3; the ends held fast are EndPrompt's, arXiv 2605.14589.
"""

import numpy as np

from longrope_factors.finetuning.data.documents import Tokens

# Two chunks alone show a long distance too rarely; many are nearer to random positions.
_CHUNKS = (2, 3, 8)
_END = 20


def extent(length: int, original: int, generator: np.random.Generator) -> int:
    """The tokens of the text that a sequence is trained for, above `original`, at most `length`.

    Half are `length` itself; the others are spread evenly over the ratios below it.
    """
    if generator.random() < 0.5:
        return length
    drawn = np.exp(generator.uniform(np.log(original), np.log(length)))
    return min(max(int(drawn), original) + 1, length)


def positions(tokens: int, extent: int, generator: np.random.Generator) -> Tokens:
    """Positions [tokens] in a text of `extent`, ascending from 0; consecutive in each chunk.

    The window is cut at random. Chunk 0 stays; the shift of each later one is drawn from that of
    the one before to extent - tokens. In every second window the last tokens are at the text's end.
    """
    count = int(generator.choice(_CHUNKS))
    cuts = np.sort(generator.integers(1, max(tokens, 2), count - 1))
    furthest = max(extent - tokens, 0)
    shifts = np.zeros(tokens, np.int64)
    shift = 0
    for cut in cuts:
        shift = int(generator.integers(shift, furthest + 1))
        shifts[cut:] = shift
    if generator.random() < 0.5:
        shifts[max(tokens - _END, 1) :] = furthest
    return (np.arange(tokens) + shifts).astype(np.int32)
