"""Fields of a Hugging Face config, checked: a FactorFileError names the one that is wrong."""

import math
from collections.abc import Mapping
from typing import Any

from longrope_factors.errors import FactorFileError
from longrope_factors.strict_json import shown


def factor_list(rope: Mapping[str, Any], field: str, rotary_dim: int) -> tuple[float, ...]:
    """The rotary_dim/2 positive numbers of rope_parameters' `field`."""
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
        positive(value, f"rope_parameters.{field}[{index}]") for index, value in enumerate(values)
    )


def number(value: Any, field: str) -> float:
    """`value` if it is a finite number."""
    try:
        found = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        found = math.inf
    if isinstance(value, bool) or not math.isfinite(found):
        raise FactorFileError(
            f"The model's config has {field} {shown(value)}; it should be a finite number."
        )
    return found


def positive(value: Any, field: str) -> float:
    """`value` if it is a finite number above 0."""
    if (found := number(value, field)) <= 0:
        raise FactorFileError(
            f"The model's config has {field} {shown(value)}; it should be greater than 0."
        )
    return found


def length(value: Any, field: str, least: int = 1) -> int:
    """`value` if it is a whole number from `least` to 2^31 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        problem = f"no {field}" if value is None else f"{field} {shown(value)}"
        raise FactorFileError(
            f"The model's config has {problem}; it should be a whole number from {least} on."
        )
    return value
