"""Bounds of the format's numbers: within them, all results are finite and exact.

Real models stay far inside: factors from 1 to a few hundred, theta up to 1e9, attention factors
from 0.5 to 2.
"""

from typing import NamedTuple


class Bounds(NamedTuple):
    """The least and the greatest allowed value."""

    least: float
    greatest: float

    def hold(self, value: float) -> bool:
        """Whether `value` is within the bounds; NaN is not."""
        return self.least <= value <= self.greatest

    def __str__(self) -> str:
        return f"from {self.least:g} to {self.greatest:g}"


# With a smaller factor, a pair turns so fast that a double's rounding error exceeds 1e-6 rad at
# position 2,097,151. The greatest is far above 2^30, PI's factor from the shortest to the longest
# length.
FACTOR = Bounds(0.001, 1e12)
# cos and sin are multiplied by it, also in float16.
ATTENTION_FACTOR = Bounds(0.001, 1000.0)
# At 1, all pairs would turn at the same speed. At the greatest value, the slowest pair's angle per
# token is still a normal floating-point number.
THETA = Bounds(1.000001, 1e15)
# The plug-in packs a position into the lower half of an int64; the half's sign bit stays free.
LONGEST = 2**31 - 1
ROTARY_DIM = 2**16
# The greatest max_lora_rank in vLLM (config/lora.py).
RANK = 512
