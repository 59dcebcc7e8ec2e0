"""The units of a trace: that of its timestamps, and the tokens of a hash id.

Published traces use the same field names with different units: Mooncake's have milliseconds and
blocks of 512 tokens, Qwen-Bailian's have seconds and blocks of 16. The user must state a unit that
is ambiguous, because a wrong unit would silently make a different load.
"""

from collections.abc import Sequence
from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]
PER_SECOND: dict[Unit, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
DEFAULT_BLOCK_TOKENS = 512
# Up to this rate in requests per second, timestamps are taken to be in milliseconds, as Mooncake's
# are (3 to 7). If they were in seconds, there would be at most one request in 50 s.
PLAIN_RATE = 20
UNIX_TIMES = (1e9, 1e10)  # in seconds: the years 2001 to 2286
LARGEST_BLOCK = 1 << 16


def unit_of(timestamps: Sequence[float]) -> Unit | None:
    """The unit of a trace's timestamps; None if it is ambiguous."""
    first, last = min(timestamps), max(timestamps)
    for unit, per_second in PER_SECOND.items():
        if UNIX_TIMES[0] <= first / per_second and last / per_second < UNIX_TIMES[1]:
            return unit
    return "ms" if rate(timestamps, "ms") <= PLAIN_RATE else None


def rate(timestamps: Sequence[float], unit: Unit) -> float:
    """Requests per second if the timestamps are in `unit`; 0 if all of them are equal."""
    seconds = (max(timestamps) - min(timestamps)) / PER_SECOND[unit]
    return (len(timestamps) - 1) / seconds if seconds else 0.0


def block_tokens_of(lengths: Sequence[tuple[int, int]]) -> int | None:
    """The tokens of a block, from the tokens and blocks of each prompt; None if it is ambiguous.

    512 if that fits every prompt, otherwise the only power of two that does.
    """
    if misfit(lengths, DEFAULT_BLOCK_TOKENS) is None:
        return DEFAULT_BLOCK_TOKENS
    powers = [1 << exponent for exponent in range(LARGEST_BLOCK.bit_length())]
    fitting = [tokens for tokens in powers if misfit(lengths, tokens) is None]
    return fitting[0] if len(fitting) == 1 else None


def misfit(lengths: Sequence[tuple[int, int]], block_tokens: int) -> int | None:
    """The index of the first prompt whose number of blocks does not fit its length, if any.

    Both published kinds of traces have a block for the incomplete end of a prompt too; other traces
    may have only whole blocks. All lines of a trace must be of the same kind.
    """
    begun = _first(lengths, [-(-tokens // block_tokens) for tokens, _ in lengths])
    whole = _first(lengths, [tokens // block_tokens for tokens, _ in lengths])
    return None if begun is None or whole is None else max(begun, whole)


def _first(lengths: Sequence[tuple[int, int]], expected: Sequence[int]) -> int | None:
    pairs = zip(lengths, expected, strict=True)
    return next((at for at, ((_, blocks), right) in enumerate(pairs) if blocks != right), None)
