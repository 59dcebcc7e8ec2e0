"""What a trace's numbers count: the unit of its timestamps, and the tokens of a hash id.

Published traces have the same names for both and other units: Mooncake's have milliseconds and
blocks of 512 tokens, Qwen-Bailian's seconds and blocks of 16. What a trace does not say plainly is
asked for, because a wrong unit makes another load without an error.
"""

from collections.abc import Sequence
from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]
PER_SECOND: dict[Unit, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
DEFAULT_BLOCK_TOKENS = 512
# Requests a second up to which a trace is in milliseconds, as Mooncake's are (3 to 7). In seconds,
# such a trace would have one request in 50 s or fewer.
PLAIN_RATE = 20
UNIX_TIMES = (1e9, 1e10)  # in seconds: of the years 2001 to 2286
LARGEST_BLOCK = 1 << 16


def unit_of(timestamps: Sequence[float]) -> Unit | None:
    """The unit of a trace's timestamps; None where it is not plain."""
    first, last = min(timestamps), max(timestamps)
    for unit, per_second in PER_SECOND.items():
        if UNIX_TIMES[0] <= first / per_second and last / per_second < UNIX_TIMES[1]:
            return unit
    return "ms" if rate(timestamps, "ms") <= PLAIN_RATE else None


def rate(timestamps: Sequence[float], unit: Unit) -> float:
    """Requests a second, where the timestamps are in `unit`; 0 of those that all are the same."""
    seconds = (max(timestamps) - min(timestamps)) / PER_SECOND[unit]
    return (len(timestamps) - 1) / seconds if seconds else 0.0


def block_tokens_of(lengths: Sequence[tuple[int, int]]) -> int | None:
    """The tokens of a block, by prompts' tokens and numbers of blocks; None where it is not plain.

    512 where that fits every prompt, else the one power of two that does.
    """
    if misfit(lengths, DEFAULT_BLOCK_TOKENS) is None:
        return DEFAULT_BLOCK_TOKENS
    powers = [1 << exponent for exponent in range(LARGEST_BLOCK.bit_length())]
    fitting = [tokens for tokens in powers if misfit(lengths, tokens) is None]
    return fitting[0] if len(fitting) == 1 else None


def misfit(lengths: Sequence[tuple[int, int]], block_tokens: int) -> int | None:
    """The index of the first prompt whose number of blocks is another than its length makes.

    A trace has blocks for all of a prompt, the last one in part, as both published kinds have, or
    for whole blocks only: one of the two in all its lines.
    """
    begun = _first(lengths, [-(-tokens // block_tokens) for tokens, _ in lengths])
    whole = _first(lengths, [tokens // block_tokens for tokens, _ in lengths])
    return None if begun is None or whole is None else max(begun, whole)


def _first(lengths: Sequence[tuple[int, int]], expected: Sequence[int]) -> int | None:
    pairs = zip(lengths, expected, strict=True)
    return next((at for at, ((_, blocks), right) in enumerate(pairs) if blocks != right), None)
