"""The GPU benchmark's figures for people, line by line, in Markdown."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

# What is divided, and by what.
RATIOS = (
    ("in_place", "phi3"),
    ("in_place", "phi3_compiled"),
    ("in_place", "table"),
    ("in_place", "moved"),
    ("compiled", "phi3_compiled"),
    ("compiled", "moved"),
)
_NAMES = {
    "in_place": "in place",
    "phi3": "vLLM's longrope layer",
    "phi3_compiled": "that layer compiled",
    "table": "plain RoPE from a table",
    "moved": "moving q and k once",
}
_FROM_TOKENS = {"moved": 2048}  # below, a call takes longer than moving anything

Row = dict[str, Any]


def _ratio(ours: str, other: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row[f"{ours}/{other}"]
        return "-" if value is None else f"{value:.2f}"

    return cell


_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("model       ", lambda row: f"{row['model']:<12}"),
    ("tokens", lambda row: f"{row['tokens']:,}"),
    ("in place", lambda row: f"{row['seconds']['in_place'] * 1e6:.1f}"),
    ("/ longrope", _ratio("in_place", "phi3")),
    ("/ compiled", _ratio("in_place", "phi3_compiled")),
    ("/ table", _ratio("in_place", "table")),
    ("/ moved", _ratio("in_place", "moved")),
    (" GB/s", lambda row: f"{row['bytes_per_second'] / 1e9:.0f}"),
    ("compiled", lambda row: f"{row['seconds']['compiled'] * 1e6:.1f}"),
    ("/ compiled", _ratio("compiled", "phi3_compiled")),
    ("/ moved", _ratio("compiled", "moved")),
)


def head() -> Iterator[str]:
    """The lines above the rows."""
    yield (
        "Rotating q and k, bf16, L2 cold: the GPU's microseconds for a call in place, and for one "
        "in compiled code;"
    )
    yield (
        "each over vLLM's longrope layer, that layer compiled, plain RoPE from a table, and moving "
        "q and k once."
    )
    yield ""
    yield _line(name for name, _ in _COLUMNS)
    yield "|" + "|".join(f"{'-' * (len(name) + 1)}:" for name, _ in _COLUMNS) + "|"


def line(row: Row) -> str:
    """One row of the table."""
    return _line(cell(row) for _, cell in _COLUMNS)


def _line(cells: Iterable[str]) -> str:
    padded = (f"{cell:>{len(name)}}" for cell, (name, _) in zip(cells, _COLUMNS, strict=True))
    return "| " + " | ".join(padded) + " |"


def largest(rows: list[Row]) -> Iterator[str]:
    """For each ratio, where it is largest."""
    for ours, other in RATIOS:
        at_least = _FROM_TOKENS.get(other, 1)
        name = f"{ours}/{other}"
        found = [row for row in rows if row["tokens"] >= at_least and row[name] is not None]
        if found:
            worst = max(found, key=lambda row: row[name])
            since = f" from {at_least:,} tokens" if at_least > 1 else ""
            yield (
                f"{_NAMES.get(ours, ours)} / {_NAMES[other]}{since}: at most {worst[name]:.2f} "
                f"({worst['model']}, {worst['tokens']:,} tokens)"
            )
