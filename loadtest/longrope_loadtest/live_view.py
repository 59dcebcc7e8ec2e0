"""What the user sees during a run and after it."""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from longrope_loadtest.profiles.profile import ALL
from longrope_loadtest.results.conversations import chosen
from longrope_loadtest.results.results import Result, early_end
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record

Figures = dict[str, Any]  # the figures of one class
RECENT = 200  # the live view shows the median of this many requests


class LiveView:
    """A table of the classes that is redrawn four times a second; a watcher of the run."""

    def __init__(self, run: Run, console: Console) -> None:
        self._run = run
        self._began = time.monotonic()
        self._sent: dict[str, int] = defaultdict(int)
        self._ended: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._ttft: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))
        self._lag: deque[float] = deque(maxlen=RECENT)
        self.live = Live(get_renderable=self._table, console=console, refresh_per_second=4)

    def dispatched(self, record: Record) -> None:
        """Count the request."""
        self._sent[record.class_name] += 1

    def ended(self, record: Record) -> None:
        """Count the request."""
        self._ended[record.class_name][record.outcome] += 1
        self._lag.append(record.dispatched - record.intended)
        ttft = record.ttft()
        if ttft is not None:
            self._ttft[record.class_name].append(ttft)

    def _table(self) -> Table:
        seconds = time.monotonic() - self._began
        lag = f"{1000 * max(self._lag, default=0):.0f} ms"
        total = sum(self._sent.values())
        table = Table(
            "class", "sent", "running", "done", "failed", "left", "recent TTFT p50",
            title=f"{seconds:.0f} s: {total} of {len(self._run.plan)} sent, send lag {lag}",
        )  # fmt: skip
        for name in self._run.profile.classes:
            ended = self._ended[name]
            recent = sorted(self._ttft[name])
            table.add_row(
                Text(name),
                str(self._sent[name]),
                str(self._sent[name] - sum(ended.values())),
                str(ended["complete"]),
                str(ended["failed"]),
                str(ended["cancelled"]),
                _seconds(recent[len(recent) // 2] if recent else None),
            )
        return table


def print_summary(result: Result, console: Console) -> None:
    """Print the figures of a result, its errors, and how far the figures can be trusted."""
    figures = result.about["figures"]
    table = Table("", *map(escape, figures))
    for label, cell in ROWS:
        table.add_row(label, *(cell(of) for of in figures.values()))
    console.print(table)
    for name, of in figures.items():
        if of["passkeys"]:
            asked, correct = of["passkeys"]["asked"], of["passkeys"]["correct"]
            console.print(f"{name}: {correct} of {asked} passkeys right", markup=False)
        if name == ALL:
            continue
        if of.get("uncounted"):
            console.print(
                f"{name}: {of['uncounted']} of {of['requests']['complete']} answers came without "
                "the server's count of tokens (usage), so tokens/s and TPOT are without them",
                markup=False,
            )
        if of.get("conversations"):
            _print_conversations(name, of["conversations"], console)
        for kind, number in of["errors"].items():
            first = next(r for r in result.records if r.class_name == name and r.error == kind)
            said = f": {first.message}" if first.message else ""
            console.print(f"{name}: {number} x {kind}{said}", style="red", markup=False)
    if (text := early_end(result.about)) is not None:
        console.print(text, style="bold red")
    for verdict in result.about["client"]["verdicts"]:
        console.print(verdict, style="bold red")
    client = result.about["client"]
    console.print(
        f"send lag p99 {_seconds(client['send_lag_p99'])}, "
        f"{_percent(client['cpu_share'])} of a core; "
        f"requests' sha256 {result.about['requests_sha256'][:16]}"
    )


def _print_conversations(name: str, found: Figures, console: Console) -> None:
    columns = ("turn", "answered", "prompt p50", "cached", "TTFT p50, p99", "output p50", "crossed")
    table = Table(*columns)
    for row in chosen(found["by_turn"]):
        table.add_row(
            str(row["turn"]),
            str(row["requests"]),
            _number(row["prompt_tokens_p50"]),
            _percent(row["cached_share"]),
            f"{_seconds(row['ttft_p50'])}, {_seconds(row['ttft_p99'])}",
            _number(row["output_tokens_p50"]),
            str(row["crossed"] or ""),
        )
    console.print(table)
    share = found["history_cached_share"]
    cached = "" if share is None else f"; {_percent(share)} of their histories cached"
    whole, begun = found["whole"], found["begun"]
    text = f"{name}: {whole} of {begun} conversations answered to the end{cached}"
    console.print(text, markup=False)
    if all(row["cached_share"] is None for row in found["by_turn"]):
        console.print(
            "The server does not state cached tokens; vLLM and `longrope serve` do with "
            "--enable-prompt-tokens-details."
        )
    for row in found["crossings"]:
        gap = f", longest gap {_seconds(row['longest_gap_p50'])}" if row["in"] == "answer" else ""
        console.print(
            f"{name}: {row['conversations']} crossed from set {row['from']} to {row['to']} in the "
            f"{row['in']} of turn {_number(row['turn_p50'])}, with a prompt of "
            f"{_number(row['prompt_tokens_p50'])} tokens ({_percent(row['cached_share'])} cached): "
            f"TTFT {_seconds(row['ttft_p50'])}{gap}",
            markup=False,
        )


def _number(value: float | None, decimals: int = 0) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1000 * value:.0f} ms" if value < 10 else f"{value:.1f} s"


def _latency(metric: str) -> Callable[[Figures], str]:
    """A function that shows p50 and p99 of a metric."""

    def cell(of: Figures) -> str:
        spread = of["latency"][metric] or {}
        return f"{_seconds(spread.get('p50'))}, {_seconds(spread.get('p99'))}"

    return cell


ROWS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("complete", lambda of: str(of["requests"]["complete"])),
    ("failed", lambda of: str(of["requests"]["failed"])),
    ("TTFT p50, p99", _latency("ttft")),
    ("  from the intended time", _latency("ttft_intended")),
    ("TPOT p50, p99", _latency("tpot")),
    ("ITL p50, p99", _latency("itl")),
    ("E2E p50, p99", _latency("e2e")),
    ("  from the intended time", _latency("e2e_intended")),
    ("output tokens/s", lambda of: _number(of["output_tokens_per_second"], 1)),
    ("within objectives", lambda of: _percent(of["goodput"]["share_of_requests"])),
)
