"""Skipped positions: few tokens get positions that span a long text.

PoSE, arXiv 2309.10400, section 3. Placing the last tokens at the text's end is from EndPrompt,
arXiv 2605.14589.
"""

import numpy as np

from longrope_factors.finetuning.data.documents import Tokens

# Two chunks alone show long distances too rarely; many chunks are closer to random positions.
_CHUNKS = (2, 3, 8)
_END = 20


def extent(length: int, original: int, generator: np.random.Generator) -> int:
    """Draw the length of the text to train a sequence for: above `original`, at most `length`.

    Half of the draws are `length` itself; the logarithms of the others are spread evenly. If
    `length` is not above `original`, all are.
    """
    if generator.random() < 0.5 or length <= original:
        return length
    drawn = np.exp(generator.uniform(np.log(original), np.log(length)))
    return min(max(int(drawn), original) + 1, length)


def positions(tokens: int, extent: int, generator: np.random.Generator) -> Tokens:
    """Draw positions [tokens] in a text of `extent` tokens, ascending from 0.

    The window is cut into chunks at random, with consecutive positions in each chunk. Chunk 0 is
    not shifted; the shift of every later chunk is drawn between that of the chunk before it and
    extent - tokens. In half of the windows, the last tokens are at the text's end.
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
