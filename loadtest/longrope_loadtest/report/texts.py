"""Numbers as people read them, the same in tables and on axes."""

NOTHING = "\u2013"
SPACE = "\u00a0"  # does not break a line between a number and its unit


def duration(seconds: float | None) -> str:
    """Three significant digits and a unit."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{_three(1000 * seconds)}{SPACE}ms"
    return f"{_three(seconds)}{SPACE}s"


def tick(seconds: float) -> str:
    """A round number of seconds, as short as possible."""
    if not seconds:
        return "0"
    return f"{1000 * seconds:g}{SPACE}ms" if abs(seconds) < 1 else f"{seconds:,g}{SPACE}s"


def count(number: float) -> str:
    """A whole number with thousands separators."""
    return f"{number:,.0f}"


def short_count(number: float) -> str:
    """A round number, with a letter for thousands and millions."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def rate(per_second: float | None) -> str:
    """Three significant digits; the row names the unit."""
    return NOTHING if per_second is None else _three(per_second)


def percent(share: float | None) -> str:
    """One decimal, or none for a whole number; 99.97 % does not become 100."""
    if share is None:
        return NOTHING
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        return f">{SPACE}99.9{SPACE}%"
    return f"{text.removesuffix('.0')}{SPACE}%"


def _three(number: float) -> str:
    decimals = 0 if abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:,.{decimals}f}"
