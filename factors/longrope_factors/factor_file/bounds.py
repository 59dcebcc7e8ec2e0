"""Bounds of the format's numbers, such that whatever is built from them is finite and exact.

Real models are far inside: factors from 1 to some hundreds, theta up to 1e9, attention factors
from 0.5 to 2.
"""

from typing import NamedTuple


class Bounds(NamedTuple):
    """The least and the greatest value, both allowed."""

    least: float
    greatest: float

    def hold(self, value: float) -> bool:
        """Whether `value` is within; NaN is not."""
        return self.least <= value <= self.greatest

    def __str__(self) -> str:
        return f"from {self.least:g} to {self.greatest:g}"


# Below it a pair turns so fast that a double's rounding shows: more than 1e-6 rad at position
# 2,097,151. The greatest is far above 2^30, what PI makes of the longest length over the shortest.
FACTOR = Bounds(0.001, 1e12)
# cos and sin are multiplied by it, in float16 too.
ATTENTION_FACTOR = Bounds(0.001, 1000.0)
# At 1 all pairs would turn alike; the greatest leaves the slowest pair's turn a normal number.
THETA = Bounds(1.000001, 1e15)
# A served position is the lower half of a 64-bit number whose sign bit stays free.
LONGEST = 2**31 - 1
ROTARY_DIM = 2**16
# vLLM's greatest max_lora_rank (config/lora.py).
RANK = 512
