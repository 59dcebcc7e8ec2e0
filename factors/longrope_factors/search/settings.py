"""How a search runs: population, variation and racing."""

import math
from dataclasses import dataclass

from longrope_factors.factor_file.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """The papers' names and defaults (arXiv 2402.13753, Algorithm 1 and section 4.1).

    population P, mutations N1 and crossovers N2 an iteration, parents k, iterations T, chance p.
    `warp` is the share of mutations that move the whole curve (not in the papers). `racing` is how
    many standard errors a candidate may be behind the best third of the parents before it is
    dropped; None measures every candidate on every document.
    """

    population: int = 64
    mutations: int = 16
    crossovers: int = 16
    parents: int = 32
    iterations: int = 40
    chance: float = 0.3
    warp: float = 0.5
    racing: float | None = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError, naming the setting, for one that makes no search."""
        least = {"population": 1, "mutations": 0, "crossovers": 0, "parents": 1, "iterations": 0}
        for name, lowest in least.items():
            if (value := getattr(self, name)) < lowest:
                raise UsageError(f"{name} is {value}; it should be at least {lowest}.")
        for name in ("chance", "warp"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise UsageError(f"{name} is {share}; it should be between 0 and 1.")
        if self.racing is not None and not 0 <= self.racing < math.inf:
            raise UsageError(f"racing is {self.racing}; it should be 0 or more standard errors.")
