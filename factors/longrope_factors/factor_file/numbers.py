"""Numbers that people and programs write into text, and no others."""

import math
import re

_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def real(text: str) -> float:
    """The decimal number that `text` is, with spaces or tabs around it; NaN for any other text.

    Python's float() takes more: 1_5 as 15, the digits of every script, nan and infinity.
    """
    number = text.strip(" \t")
    return float(number) if _REAL.fullmatch(number) else math.nan
