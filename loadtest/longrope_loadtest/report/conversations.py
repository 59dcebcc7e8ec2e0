"""What each turn of a conversation costs."""

from collections import defaultdict
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from longrope_loadtest.report import texts
from longrope_loadtest.report.drawing import STEPS, Picture, picture, points, scale
from longrope_loadtest.report.looks import Look
from longrope_loadtest.results.slo import counted
from longrope_loadtest.run.record import Record

_Pairs = list[tuple[int, float]]  # a turn and a number


def by_turn(by_class: dict[str, list[Record]], looks: dict[str, Look]) -> list[Picture]:
    """TTFT, and the prompt with its cached part, against the turn; none without conversations."""
    answered = {
        name: [r for r in counted(records) if r.turn is not None and r.outcome == "complete"]
        for name, records in by_class.items()
    }
    ttft = {name: _pairs(records, Record.ttft) for name, records in answered.items()}
    prompt = {
        name: _pairs(records, lambda r: r.prompt_tokens) for name, records in answered.items()
    }
    cached = {
        name: _pairs(records, lambda r: r.cached_tokens) for name, records in answered.items()
    }
    pictures = []
    if any(ttft.values()):
        pictures.append(_ttft(ttft, looks))
    if any(prompt.values()):
        pictures.append(_prompt(prompt, cached, looks))
    return pictures


def _pairs(records: list[Record], of: Any) -> _Pairs:
    return [(r.turn, value) for r in records if r.turn is not None and (value := of(r)) is not None]


def _ttft(seen: dict[str, _Pairs], looks: dict[str, Look]) -> Picture:
    values = [value for pairs in seen.values() for _, value in pairs]

    def draw(axes: Any) -> None:
        for name, pairs in seen.items():
            points(axes, pairs, looks[name], len(values))
            axes.plot(*_medians(pairs), color=looks[name].color)
        _turn_axis(axes)
        scale(axes.yaxis, values, texts.tick)
        axes.set_ylabel("TTFT from dispatch")

    return picture("TTFT by turn", draw, "Each request, and the median of each turn.")


def _prompt(
    prompt: dict[str, _Pairs], cached: dict[str, _Pairs], looks: dict[str, Look]
) -> Picture:
    def draw(axes: Any) -> None:
        for seen, style in ((prompt, "-"), (cached, ":")):
            for name, pairs in seen.items():
                axes.plot(*_medians(pairs), style, color=looks[name].color)
        _turn_axis(axes)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: texts.short_count(value)))
        axes.set_ylabel("tokens, median")

    return picture("Prompt by turn", draw, "Solid: the whole prompt. Dotted: its cached part.")


def _medians(pairs: _Pairs) -> tuple[list[int], list[float]]:
    by_turn: dict[int, list[float]] = defaultdict(list)
    for turn, value in pairs:
        by_turn[turn].append(value)
    turns = sorted(by_turn)
    return turns, [float(np.median(by_turn[turn])) for turn in turns]


def _turn_axis(axes: Any) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=STEPS, integer=True))
    axes.set_xlabel("turn")
