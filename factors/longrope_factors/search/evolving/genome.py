"""What evolves: a candidate factor set."""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Genome:
    """A candidate: relative factors (one for each dimension pair), and what else is searched.

    `cuts` are dimension pairs at which the shape changes: none for a monotone vector, two for the
    dimension-piecewise variant, the critical dimension pair for LongRoPE2's.
    """

    factors: tuple[float, ...]
    start_tokens: int
    attention_factor: float
    cuts: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """16 hexadecimal digits that differ when the genome does."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]
