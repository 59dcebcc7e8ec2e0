"""The figures of conversations: by turn, and where their history crosses a factor set."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from longrope_loadtest.run.record import Record

MOST_ROWS = 12  # that a table for people has of a conversation's turns

_Turns = list[Record]  # of one conversation, in order
_Crossing = tuple[str, str, Record]  # the set before, the set after, the turn that changed it


def conversations(records: Iterable[Record]) -> dict[str, Any] | None:
    """The figures of the counted `records` that are turns; None if there are none.

    `history_cached_share` is the share of the previous turns' prompts and answers, in tokens, that
    the next turns found in the prefix cache.
    """
    by_number: dict[int, _Turns] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.number):
        if record.conversation is not None:
            by_number[record.conversation].append(record)
    if not by_number:
        return None
    begun = list(by_number.values())
    pairs = [pair for turns in begun for pair in pairwise(turns) if _complete(pair[1])]
    crossings = _crossings(begun)
    return {
        "begun": len(begun),
        "whole": sum(_complete(turns[-1]) and turns[-1].turn == turns[-1].turns for turns in begun),
        "history_cached_share": _history_cached_share(pairs),
        "by_turn": _by_turn(begun, {record.number for _, _, record in crossings}),
        "crossings": _by_sets(crossings),
    }


def chosen(by_turn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `by_turn` that a table shows: all, or as many as fit, evenly spaced."""
    if len(by_turn) <= MOST_ROWS:
        return by_turn
    return [by_turn[int(at)] for at in np.linspace(0, len(by_turn) - 1, MOST_ROWS)]


def _complete(record: Record) -> bool:
    return record.outcome == "complete"


def _history_cached_share(pairs: Sequence[tuple[Record, Record]]) -> float | None:
    cached = [
        (min(after.cached_tokens, history), history)
        for before, after in pairs
        if after.cached_tokens is not None
        and (history := (before.prompt_tokens or 0) + (before.output_tokens or 0))
    ]
    if not cached:
        return None
    return sum(found for found, _ in cached) / sum(history for _, history in cached)


def _by_turn(begun: list[_Turns], crossing: set[int]) -> list[dict[str, Any]]:
    by_turn: dict[int, list[Record]] = defaultdict(list)
    for turns in begun:
        for record in turns:
            if _complete(record):
                assert record.turn is not None
                by_turn[record.turn].append(record)
    return [
        {
            "turn": turn,
            "requests": len(records),
            **_figures(records),
            "output_tokens_p50": _p(50, (record.output_tokens for record in records)),
            "crossed": sum(record.number in crossing for record in records),
        }
        for turn, records in sorted(by_turn.items())
    ]


def _crossings(begun: list[_Turns]) -> list[_Crossing]:
    crossings = []
    for turns in begun:
        before: str | None = None
        for record in filter(_complete, turns):
            for after in (record.factor_set, record.promoted_to):
                if after is not None:
                    if before not in (None, after):
                        crossings.append((str(before), after, record))
                    before = after
    return crossings


def _by_sets(crossings: list[_Crossing]) -> list[dict[str, Any]]:
    """The crossings by the two sets, and by whether the prompt crossed or the answer."""
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for before, after, record in crossings:
        where = "answer" if after == record.promoted_to else "prompt"
        groups[before, after, where].append(record)
    return [
        {
            "from": before,
            "to": after,
            "in": where,
            "conversations": len(records),
            "turn_p50": _p(50, (record.turn for record in records)),
            **_figures(records),
            "longest_gap_p50": _p(50, (max(r.token_gaps, default=None) for r in records)),
        }
        for (before, after, where), records in groups.items()
    ]


def _figures(records: list[Record]) -> dict[str, Any]:
    told = [(r.cached_tokens, r.prompt_tokens) for r in records if r.cached_tokens is not None]
    prompts = sum(prompt or 0 for _, prompt in told)
    return {
        "prompt_tokens_p50": _p(50, (record.prompt_tokens for record in records)),
        "cached_share": sum(cached for cached, _ in told) / prompts if prompts else None,
        "ttft_p50": _p(50, (record.ttft() for record in records)),
        "ttft_p99": _p(99, (record.ttft() for record in records)),
    }


def _p(level: float, numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return float(np.percentile(known, level)) if known else None
