"""The tables of the report, as texts without any HTML."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from longrope_loadtest.profiles.profile import ALL, Profile, Slo
from longrope_loadtest.report import texts
from longrope_loadtest.results.conversations import chosen
from longrope_loadtest.run.record import Record

Of = dict[str, Any]  # the figures of one class
_MakeRow = Callable[[str, Callable[[Of], str]], "Row"]
_FROM_DISPATCH = (("TTFT", "ttft"), ("E2E", "e2e"))
_FROM_INTENDED = (("TTFT", "ttft_intended"), ("E2E", "e2e_intended"))
_BETWEEN = (("TPOT", "tpot"), ("ITL", "itl"))


_OUTCOMES = (
    ("complete", "complete"),
    ("failed", "failed"),
    ("cancelled by us", "cancelled"),
    ("left when the run ended", "interrupted"),
    ("warm-up, not counted", "warm_up"),
    ("retries", "retries"),
)


@dataclass(frozen=True)
class Row:
    """A name and a cell for each class."""

    name: str
    cells: list[str]


@dataclass(frozen=True)
class Group:
    """Rows under a heading."""

    name: str
    rows: list[Row]


@dataclass(frozen=True)
class Table:
    """A table; the first column has words, the others have numbers."""

    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Failure:
    """Requests of a class that failed in the same way."""

    class_name: str
    kind: str
    number: int
    first_at: float  # seconds, intended time
    message: str


def summary(figures: dict[str, Of], profile: Profile) -> list[Group]:
    """The figures, with a column for each class; empty rows and groups are left out."""

    def row(name: str, of: Callable[[Of], str]) -> Row:
        return Row(name, [of(class_figures) for class_figures in figures.values()])

    objectives = [_objectives(_slo(profile, name)) for name in figures]
    groups = [
        Group("Requests", [_outcome(row, name, key) for name, key in _OUTCOMES]),
        Group(
            "Within the objectives",
            [
                Row("objectives", objectives),
                row("requests", lambda of: texts.percent(of["goodput"]["share_of_requests"])),
                row(
                    "requests/s",
                    lambda of: texts.rate(of["goodput"]["good_requests_per_second"]),
                ),
            ],
        ),
        Group("Latency from dispatch", _latencies(row, _FROM_DISPATCH)),
        Group("Latency from the intended time", _latencies(row, _FROM_INTENDED)),
        Group("Between tokens", _latencies(row, _BETWEEN)),
        Group(
            "Throughput",
            [
                row("requests/s", lambda of: texts.rate(of["requests_per_second"])),
                row("output tokens/s", lambda of: texts.rate(of["output_tokens_per_second"])),
                row("prompt tokens/s", lambda of: texts.rate(of["prompt_tokens_per_second"])),
                # Results of earlier versions do not have it.
                row("without usage", lambda of: _unless_zero(of.get("uncounted", 0))),
            ],
        ),
        Group(
            "Lengths (tokens)",
            [
                row("prompt p50", lambda of: _tokens(of["prompt_tokens"], "p50")),
                row("prompt max", lambda of: _tokens(of["prompt_tokens"], "max")),
                row("output p50", lambda of: _tokens(of["output_tokens"], "p50")),
                row("of prompts, cached", lambda of: texts.percent(of["cached_share"])),
            ],
        ),
        Group(
            "Conversations",
            [
                row("begun", lambda of: _of_conversations(of, "begun", texts.count)),
                row(
                    "with every turn answered",
                    lambda of: _of_conversations(of, "whole", texts.count),
                ),
                row(
                    "of histories, cached",
                    lambda of: _of_conversations(of, "history_cached_share", texts.percent),
                ),
            ],
        ),
        Group("Answers", [row("passkeys right", _passkeys)]),
        Group(
            "Factor sets (requests)",
            [
                row("begun with", lambda of: _counts(of["factor_sets"])),
                row("promoted", lambda of: _unless_zero(of["promotions"])),
            ],
        ),
    ]
    kept = [Group(group.name, [r for r in group.rows if _says(r)]) for group in groups]
    return [group for group in kept if group.rows]


def failures(records: list[Record]) -> list[Failure]:
    """What went wrong, by class and kind, the most frequent first; includes the warm-up."""
    failed = sorted((r for r in records if r.outcome == "failed"), key=lambda r: r.intended)
    numbers = Counter((record.class_name, record.error or "unknown") for record in failed)
    grouped = []
    for (class_name, kind), number in numbers.most_common():
        first = next(
            r for r in failed if (r.class_name, r.error or "unknown") == (class_name, kind)
        )
        grouped.append(Failure(class_name, kind, number, first.intended, first.message or ""))
    return grouped


def passkeys(figures: dict[str, Of]) -> Table | None:
    """Passkeys by class and length; None if none was asked for."""
    rows = [
        [
            name,
            texts.count(row["up_to_tokens"]),
            texts.count(row["asked"]),
            texts.count(row["correct"]),
            texts.percent(row["correct"] / row["asked"]),
            texts.duration(row["ttft_p50"]),
        ]
        for name, of in figures.items()
        if name != ALL and of["passkeys"] is not None
        for row in of["passkeys"]["by_length"]
    ]
    head = ["class", "prompt up to (tokens)", "asked", "right", "share", "TTFT p50"]
    return Table(head, rows) if rows else None


def turns(figures: dict[str, Of]) -> Table | None:
    """The turns of conversations by class; None if there was no conversation."""
    rows = [
        [
            name,
            texts.count(row["turn"]),
            texts.count(row["requests"]),
            *_turn_cells(row),
            texts.duration(row["ttft_p99"]),
            _count(row["output_tokens_p50"]),
            _unless_zero(row["crossed"]),
        ]
        for name, found in _conversations(figures)
        for row in chosen(found["by_turn"])
    ]
    head = ["class", "turn", "answered", "prompt p50 (tokens)", "cached", "TTFT p50", "TTFT p99"]
    return Table([*head, "output p50 (tokens)", "crossed a set"], rows) if rows else None


def crossings(figures: dict[str, Of]) -> Table | None:
    """Where histories crossed a factor set, by class; None if none did."""
    rows = [
        [
            name,
            f"{row['from']} → {row['to']}",
            row["in"],
            texts.count(row["conversations"]),
            _count(row["turn_p50"]),
            *_turn_cells(row),
            texts.duration(row["longest_gap_p50"]),
        ]
        for name, found in _conversations(figures)
        for row in found["crossings"]
    ]
    head = ["class", "factor set", "crossed in the", "conversations", "turn p50"]
    return (
        Table([*head, "prompt p50 (tokens)", "cached", "TTFT p50", "longest gap p50"], rows)
        if rows
        else None
    )


def _conversations(figures: dict[str, Of]) -> list[tuple[str, Of]]:
    return [
        (name, found)
        for name, of in figures.items()
        if name != ALL and (found := of.get("conversations")) is not None
    ]


def _turn_cells(row: Of) -> list[str]:
    prompt, cached = _count(row["prompt_tokens_p50"]), texts.percent(row["cached_share"])
    return [prompt, cached, texts.duration(row["ttft_p50"])]


def _count(number: float | None) -> str:
    return texts.NOTHING if number is None else texts.count(number)


def _of_conversations(of: Of, key: str, text: Callable[[Any], str]) -> str:
    found = of.get("conversations")  # results of earlier versions have none
    return texts.NOTHING if found is None else text(found[key])


def _outcome(row: _MakeRow, name: str, key: str) -> Row:
    """The row of an outcome; only for complete and failed requests is a zero worth showing."""
    if key in ("complete", "failed"):
        return row(name, lambda of: texts.count(of["requests"][key]))
    return row(name, lambda of: _unless_zero(of["requests"][key]))


def _latencies(row: _MakeRow, latencies: Iterable[tuple[str, str]]) -> list[Row]:
    def at(key: str, percentile: str) -> Callable[[Of], str]:
        return lambda of: texts.duration((of["latency"][key] or {}).get(percentile))

    return [row(f"{name} {p}", at(key, p)) for name, key in latencies for p in ("p50", "p99")]


def _says(row: Row) -> bool:
    return any(cell != texts.NOTHING for cell in row.cells)


def _unless_zero(number: int) -> str:
    return texts.count(number) if number else texts.NOTHING


def _tokens(spread: dict[str, float] | None, at: str) -> str:
    return texts.count(spread[at]) if spread else texts.NOTHING


def _passkeys(of: Of) -> str:
    seen = of["passkeys"]
    if seen is None:
        return texts.NOTHING
    return f"{texts.percent(seen['correct'] / seen['asked'])} of {texts.count(seen['asked'])}"


def _counts(numbers: dict[str, int]) -> str:
    if not numbers:
        return texts.NOTHING
    in_order = sorted(numbers.items(), key=lambda item: (len(item[0]), item[0]))  # 8192 < 16384
    return "\n".join(f"{name}: {texts.count(number)}" for name, number in in_order)


def _slo(profile: Profile, name: str) -> Slo | None:
    return profile.classes[name].slo if name in profile.classes else None


def _objectives(slo: Slo | None) -> str:
    limits = slo.model_dump(exclude_none=True) if slo else {}
    if not limits:
        return texts.NOTHING
    return "\n".join(f"{name.upper()} ≤ {texts.tick(limit)}" for name, limit in limits.items())
