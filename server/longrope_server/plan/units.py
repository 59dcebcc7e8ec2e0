"""Formats numbers for people."""


def size(count: int) -> str:
    """Bytes: '512 B', '192 KiB', '1.00 TiB'."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def operations(count: int) -> str:
    """Floating-point operations: '28.3 PFLOP'."""
    return _scaled(count, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def duration(seconds: float) -> str:
    """'12.0 ms', '1.50 s', '16.6 min', '3.17 h'."""
    for least, factor, unit in ((3600, 3600, "h"), (60, 60, "min"), (1, 1, "s")):
        if seconds >= least:
            return f"{_three(seconds / factor)} {unit}"
    return f"{_three(seconds * 1000)} ms"


def _scaled(count: float, base: int, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if count < base:
            return f"{_three(count)} {unit}"
        count /= base
    return f"{_three(count)} {units[-1]}"


def _three(number: float) -> str:
    """Three digits, or all those before the point; whole numbers below 1,000 unchanged."""
    if number == int(number) and number < 1000 and isinstance(number, int):
        return str(number)
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:,.{decimals}f}"
