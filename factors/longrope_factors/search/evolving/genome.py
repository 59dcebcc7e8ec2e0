"""The genome of the evolution: a candidate factor set."""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Genome:
    """A candidate: relative factors, one for each dimension pair, and the other searched values.

    `cuts` are the dimension pairs at which the shape changes: none for a monotone vector, two for
    the dimension-piecewise variant, and the critical dimension pair for LongRoPE2's.
    """

    factors: tuple[float, ...]
    start_tokens: int
    attention_factor: float
    cuts: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """16 hexadecimal digits that identify the genome."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]
