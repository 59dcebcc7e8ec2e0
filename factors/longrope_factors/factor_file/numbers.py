"""Decimal numbers as people and programs write them into text."""

import math
import re

_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def real(text: str) -> float:
    """Parse a decimal number that may have spaces or tabs around it; NaN for any other text.

    Python's float() accepts more: 1_5 as 15, the digits of every script, nan and infinity.
    """
    number = text.strip(" \t")
    return float(number) if _REAL.fullmatch(number) else math.nan
