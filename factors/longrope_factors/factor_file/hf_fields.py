"""Checks of a Hugging Face config's fields; each raises a FactorFileError that names the field."""

import math
from collections.abc import Mapping
from typing import Any

from longrope_factors.factor_file import bounds
from longrope_factors.factor_file.bounds import Bounds
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files.strict_json import shown


def factor_list(rope: Mapping[str, Any], field: str, rotary_dim: int) -> tuple[float, ...]:
    """The rotary_dim/2 factors in `field` of rope_parameters."""
    values = rope.get(field)
    if not isinstance(values, list | tuple):
        raise FactorFileError(
            f"The model's config has rope_parameters.{field} {shown(values)}; "
            "it should be a list of numbers."
        )
    if len(values) != rotary_dim // 2:
        raise FactorFileError(
            f"The model's config has {len(values)} numbers in rope_parameters.{field}; "
            f"rotary dimension {rotary_dim} needs {rotary_dim // 2}."
        )
    return tuple(
        factor(value, f"rope_parameters.{field}[{index}]") for index, value in enumerate(values)
    )


def number(value: Any, field: str) -> float:
    """`value` if it is a finite number."""
    try:
        converted = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        converted = math.inf
    if isinstance(value, bool) or not math.isfinite(converted):
        raise FactorFileError(
            f"The model's config has {field} {shown(value)}; it should be a finite number."
        )
    return converted


def factor(value: Any, field: str) -> float:
    """`value` if it is a valid rescale factor."""
    return _within(value, field, bounds.FACTOR)


def attention_factor(value: Any, field: str) -> float:
    """`value` if it is a valid multiplier of cos and sin."""
    return _within(value, field, bounds.ATTENTION_FACTOR)


def share(value: Any, field: str) -> float:
    """`value` if it is from 0 to 1."""
    return _within(value, field, Bounds(0.0, 1.0))


def theta(value: Any, field: str) -> float:
    """`value` if it is a valid base of the rotation."""
    return _within(value, field, bounds.THETA)


def _within(value: Any, field: str, allowed: Bounds) -> float:
    if not allowed.hold(converted := number(value, field)):
        raise FactorFileError(
            f"The model's config has {field} {shown(value)}; it should be {allowed}."
        )
    return converted


def length(value: Any, field: str, least: int = 1) -> int:
    """`value` if it is a whole number from `least` to the longest length."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= bounds.LONGEST:
        problem = f"no {field}" if value is None else f"{field} {shown(value)}"
        raise FactorFileError(
            f"The model's config has {problem}; it should be a whole number from {least} to "
            f"{bounds.LONGEST}."
        )
    return value
