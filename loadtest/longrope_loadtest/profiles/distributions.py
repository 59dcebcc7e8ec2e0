"""Distributions of lengths and times: in a profile, a number or `{kind: ..., ...}`."""

import math
import random
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)


class Strict(BaseModel):
    """A part of a profile: unknown fields are errors, and text does not count as a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]  # YAML has lists, not tuples
FilePath = Annotated[Path, Field(strict=False)]  # YAML has text


class Constant(Strict):
    """Always `value`; a bare number is short for this."""

    kind: Literal["constant"]
    value: NonNegativeFloat

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self.value


class _Bounded(Strict):
    min: NonNegativeFloat = 0
    max: PositiveFloat | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max ({self.max:g}) is below min ({self.min:g})")
        return self

    def _bounded(self, value: float) -> float:
        return max(self.min, value if self.max is None else min(self.max, value))


class Uniform(Strict):
    """Between `min` and `max`, with all values equally likely."""

    kind: Literal["uniform"]
    min: NonNegativeFloat
    max: NonNegativeFloat

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max:g}) is below min ({self.min:g})")
        return self

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return rng.uniform(self.min, self.max)


class Normal(_Bounded):
    """Normal; values outside the bounds are moved to the nearest bound."""

    kind: Literal["normal"]
    mean: PositiveFloat
    deviation: NonNegativeFloat

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self._bounded(rng.gauss(self.mean, self.deviation))


class LogNormal(_Bounded):
    """Lognormal with this median; `sigma` is the logarithm's deviation (about 0.8 for chats)."""

    kind: Literal["lognormal"]
    median: PositiveFloat
    sigma: NonNegativeFloat

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self._bounded(self.median * math.exp(rng.gauss(0, self.sigma)))


class Exponential(_Bounded):
    """Exponential with this mean."""

    kind: Literal["exponential"]
    mean: PositiveFloat

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self._bounded(rng.expovariate(1 / self.mean))


class Choice(Strict):
    """One of `values`, in proportion to `weights` (equally often without them)."""

    kind: Literal["choice"]
    values: Listed[NonNegativeFloat] = Field(min_length=1)
    weights: Listed[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.weights)} weights")
        return self

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return rng.choices(self.values, self.weights)[0]


def _bare(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "constant", "value": value}
    return value


Distribution = Annotated[
    Annotated[
        Constant | Uniform | Normal | LogNormal | Exponential | Choice,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_bare),
]


def draw_tokens(distribution: Distribution, rng: random.Random) -> int:
    """Draw a length in tokens: rounded, at least 1."""
    return max(1, round(distribution.draw(rng)))
