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
    model_validator,
)

from longrope_loadtest.profiles.bounds import MOST, Amount, PositiveAmount


class Strict(BaseModel):
    """A part of a profile: unknown fields are errors, and text does not count as a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]  # YAML has lists, not tuples
FilePath = Annotated[Path, Field(strict=False)]  # YAML has text


class Constant(Strict):
    """Always `value`; a bare number is short for this."""

    kind: Literal["constant"]
    value: Amount

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self.value


class _Bounded(Strict):
    min: Amount = 0
    max: PositiveAmount = MOST

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max:g}) is below min ({self.min:g})")
        return self

    def _bounded(self, value: float) -> float:
        return max(self.min, min(self.max, value))


class Uniform(Strict):
    """Between `min` and `max`, with all values equally likely."""

    kind: Literal["uniform"]
    min: Amount
    max: Amount

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
    mean: PositiveAmount
    deviation: Amount

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self._bounded(rng.gauss(self.mean, self.deviation))


class LogNormal(_Bounded):
    """Lognormal with this median; `sigma` is the logarithm's deviation (about 0.8 for chats)."""

    kind: Literal["lognormal"]
    median: PositiveAmount
    sigma: Annotated[NonNegativeFloat, Field(le=10)]

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self._bounded(self.median * math.exp(rng.gauss(0, self.sigma)))


class Exponential(_Bounded):
    """Exponential with this mean."""

    kind: Literal["exponential"]
    mean: PositiveAmount

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self._bounded(rng.expovariate(1 / self.mean))


class Choice(Strict):
    """One of `values`, in proportion to `weights` (equally often without them)."""

    kind: Literal["choice"]
    values: Listed[Amount] = Field(min_length=1)
    weights: Listed[PositiveAmount] | None = None

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
