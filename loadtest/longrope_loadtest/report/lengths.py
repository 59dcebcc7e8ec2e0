"""What a longer prompt costs, and whether the model still finds what is in it."""

import math
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from longrope_loadtest.report import texts
from longrope_loadtest.report.drawing import Picture, picture, points, scale
from longrope_loadtest.report.looks import Look
from longrope_loadtest.results.slo import counted
from longrope_loadtest.run.record import Record

Z95 = 1.96  # 95 % of a normal distribution is within this many standard deviations


def by_prompt_length(by_class: dict[str, list[Record]], looks: dict[str, Look]) -> list[Picture]:
    """TTFT (of streamed requests) and E2E of each request against its prompt's length."""
    pictures = []
    for title, label, of in (
        ("TTFT by length of the prompt", "TTFT from dispatch", Record.ttft),
        ("E2E by length of the prompt", "E2E from dispatch", Record.e2e),
    ):
        seen = {
            name: [
                (record.prompt_tokens or record.planned_prompt_tokens, value)
                for record in counted(records)
                if record.outcome == "complete" and (value := of(record)) is not None
            ]
            for name, records in by_class.items()
        }
        drawn = {name: pairs for name, pairs in seen.items() if pairs}
        if drawn:
            pictures.append(_scatter(title, label, drawn, looks))
    return pictures


def passkeys(figures: dict[str, Any], looks: dict[str, Look]) -> list[Picture]:
    """The share of passkeys that were found, and their TTFT, by length."""
    asked = {
        name: figures[name]["passkeys"]["by_length"]
        for name in looks
        if figures[name]["passkeys"] is not None
    }
    if not asked:
        return []
    timed = {
        name: [row for row in rows if row["ttft_p50"] is not None] for name, rows in asked.items()
    }
    pictures = [_accuracy(asked, looks)]
    if any(timed.values()):
        pictures.append(_latency(timed, looks))
    return pictures


def wilson(correct: int, asked: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share (1927)."""
    share, square = correct / asked, Z95**2 / asked
    middle = share + square / 2
    half = Z95 * math.sqrt(share * (1 - share) / asked + square / (4 * asked))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def _scatter(
    title: str, label: str, seen: dict[str, list[tuple[int, float]]], looks: dict[str, Look]
) -> Picture:
    lengths = [length for pairs in seen.values() for length, _ in pairs]
    latencies = [latency for pairs in seen.values() for _, latency in pairs]

    def draw(axes: Any) -> None:
        for name, pairs in seen.items():
            points(axes, pairs, looks[name], len(lengths))
        scale(axes.xaxis, lengths, texts.short_count, from_zero=False)
        scale(axes.yaxis, latencies, texts.tick)
        axes.set(xlabel="prompt (tokens)", ylabel=label)

    return picture(title, draw)


def _accuracy(asked: dict[str, list[dict[str, Any]]], looks: dict[str, Look]) -> Picture:
    def draw(axes: Any) -> None:
        for number, (name, rows) in enumerate(asked.items()):
            shares = [row["correct"] / row["asked"] for row in rows]
            ends = [wilson(row["correct"], row["asked"]) for row in rows]
            axes.errorbar(
                # Side by side, so that no class hides another's interval.
                [row["up_to_tokens"] * 1.04**number for row in rows],
                shares,
                yerr=(
                    [max(0, share - low) for share, (low, _) in zip(shares, ends, strict=True)],
                    [max(0, high - share) for share, (_, high) in zip(shares, ends, strict=True)],
                ),
                color=looks[name].color,
                marker=looks[name].marker,
                markersize=6,
                capsize=3,
                elinewidth=1,
            )
        axes.set_ylim(-0.05, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.set_ylabel("passkeys right")
        _length_axis(axes, asked)

    return picture("Passkeys right, by length", draw, "Bars: 95 % confidence interval (Wilson).")


def _latency(timed: dict[str, list[dict[str, Any]]], looks: dict[str, Look]) -> Picture:
    def draw(axes: Any) -> None:
        for name, rows in timed.items():
            axes.plot(
                [row["up_to_tokens"] for row in rows],
                [row["ttft_p50"] for row in rows],
                color=looks[name].color,
                marker=looks[name].marker,
                markersize=6,
            )
        scale(axes.yaxis, [row["ttft_p50"] for rows in timed.values() for row in rows], texts.tick)
        axes.set_ylabel("TTFT p50, from dispatch")
        _length_axis(axes, timed)

    return picture("TTFT of the passkeys' requests, by length", draw)


def _length_axis(axes: Any, by_length: dict[str, list[dict[str, Any]]]) -> None:
    lengths = sorted({row["up_to_tokens"] for rows in by_length.values() for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xlim(lengths[0] / 1.5, lengths[-1] * 1.5)
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _binary(round(value))))
    axes.set_xlabel("prompt, up to (tokens; k = 1,024)")


def _binary(tokens: int) -> str:
    for size, letter in ((1 << 20, "M"), (1 << 10, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{letter}"
    return str(tokens)
