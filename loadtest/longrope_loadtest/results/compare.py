"""Compare two results: ratios of figures with their confidence intervals.

The intervals are those of the bootstrap over requests. They are not resampled, but drawn from the
distribution that resampling approaches, which takes no time even for many requests: in a resample
of n values, the p-quantile is the original sample's quantile at a random level,
Beta((n + 1) p, (n + 1) (1 - p)) (Harrell and Davis 1982). The gaps of one request (ITL) are alike,
so resampling takes or leaves them together; n is then the number of independent gaps that would
hold as much information as all gaps (the design effect of clusters, Kish 1965).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from longrope_loadtest.profiles.profile import ALL
from longrope_loadtest.results.figures import values
from longrope_loadtest.results.results import Result, early_end
from longrope_loadtest.results.slo import counted
from longrope_loadtest.run.record import Record

LATENCIES = {
    "ttft": "TTFT",
    "ttft_intended": "TTFT since due",  # the intended time
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e": "E2E",
}
QUANTILES = {"p50": 0.5, "p99": 0.99}
DRAWS = 4000
ENDS = (2.5, 97.5)  # percentiles of the draws: a 95 % interval
# Requests needed for an interval. With probability 0.99**n, the true p99 is above all of n values,
# and resampling them cannot tell by how much: for two equal servers, 95 % intervals of p99 contain
# the ratio 1 in 59 % of cases from 20 requests, in 86 % from 100, and in 93 % from 200.
ENOUGH = {"p50": 10, "p99": 200}
_PATHS = 6  # the most differing fields that a note names

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """One figure in both results; `low` and `high` are the 95 % interval of `change`."""

    class_name: str
    figure: str  # "ttft", "goodput", "passkeys", "output tokens"
    statistic: str  # "p50", "p99", "share", "per second"
    a: float
    b: float
    kind: str  # of `change`: "ratio" is B / A, "difference" is B - A
    change: float | None
    low: float | None = None  # None if there is too little data for an interval
    high: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval excludes the value for no change."""
        if self.low is None or self.high is None:
            return False
        same = 1 if self.kind == "ratio" else 0
        return not self.low <= same <= self.high

    @property
    def better(self) -> bool:
        """Whether B is better, if there is a change: lower for a latency, else higher."""
        assert self.change is not None
        if self.figure in LATENCIES:
            return self.change < 1
        return self.change > (1 if self.kind == "ratio" else 0)

    def as_json(self) -> dict[str, Any]:
        """All fields but the class's name."""
        fields = asdict(self) | {"significant": self.significant}
        del fields["class_name"]
        return fields


@dataclass(frozen=True)
class Comparison:
    """The comparison of result B with result A, the baseline."""

    a: str  # directories
    b: str
    notes: tuple[str, ...]  # sentences on what else differs between the two
    changes: tuple[Change, ...]
    missing: tuple[str, ...]  # classes, and latencies of classes, that only the baseline has
    partial: tuple[str, ...]  # directories of results of runs that ended early

    def as_json(self) -> dict[str, Any]:
        """The notes, and the changes by class."""
        classes: dict[str, list[dict[str, Any]]] = {}
        for change in self.changes:
            classes.setdefault(change.class_name, []).append(change.as_json())
        return {"a": self.a, "b": self.b, "notes": list(self.notes), "classes": classes}


def compared(a: Result, b: Result) -> Comparison:
    """Compare B with A, for each class and for all requests together.

    The intervals account for the random choice of requests, but not for differences between runs.
    Equal arguments give equal intervals.
    """
    rng = np.random.default_rng(0)
    changes: list[Change] = []
    for name in a.about["figures"]:
        if name in b.about["figures"]:
            changes += _latencies(name, _of(a, name), _of(b, name), rng)
            changes += _shares(name, a, b, rng)
            changes += _rate(name, a, b)
    return Comparison(
        str(a.directory),
        str(b.directory),
        notes=tuple(_notes(a, b, changes)),
        changes=tuple(changes),
        missing=tuple(_alone(a.about, b.about)),
        partial=tuple(str(of.directory) for of in (a, b) if early_end(of.about) is not None),
    )


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the changes as a table, and the notes."""
    console.print(f"A: {comparison.a}\nB: {comparison.b}", markup=False, highlight=False)
    table = Table("class", "figure")
    for head in ("A", "B", "B against A", "95 % interval"):
        table.add_column(head, justify="right")
    table.add_column("")
    last = None
    for change in comparison.changes:
        if last not in (None, change.class_name):
            table.add_section()
        name = "" if change.class_name == last else change.class_name
        last = change.class_name
        figure = LATENCIES.get(change.figure, change.figure)
        table.add_row(Text(name), f"{figure} {change.statistic}", *_cells(change))
    console.print(table)
    for note in comparison.notes:
        console.print(note, style="bold red", markup=False, highlight=False)
    console.print(
        "The intervals are of these two runs' requests. What differs from run to run is not in "
        "them: repeat both before you trust a small difference.",
        highlight=False,
    )


def _of(result: Result, name: str) -> list[Record]:
    return [record for record in result.records if name in (ALL, record.class_name)]


def _latencies(
    name: str, a: list[Record], b: list[Record], rng: np.random.Generator
) -> Iterator[Change]:
    for metric in LATENCIES:
        left, right = _Sample(a, metric), _Sample(b, metric)
        if not len(left) or not len(right):
            continue
        for statistic, level in QUANTILES.items():
            x, y = left.quantile(level), right.quantile(level)
            low = high = None
            if x > 0 and min(left.requests, right.requests) >= ENOUGH[statistic]:
                above, below = right.draws(level, rng), left.draws(level, rng)
                if below.min() > 0:
                    low, high = _ends(above / below)
            yield Change(name, metric, statistic, x, y, "ratio", y / x if x else None, low, high)


class _Sample:
    """A metric's values in ascending order, and the request that each belongs to."""

    def __init__(self, records: list[Record], metric: str) -> None:
        numbers = np.array(values(records, metric), dtype=np.float64)
        order = np.argsort(numbers)
        self._values = numbers[order]
        self._owners: NDArray[np.int64] | None = None
        self.requests = len(numbers)
        if metric == "itl":
            complete = [record for record in counted(records) if record.outcome == "complete"]
            gaps = [len(record.token_gaps) for record in complete]
            self._owners = np.repeat(np.arange(len(gaps)), gaps)[order]
            self.requests = sum(number > 0 for number in gaps)

    def __len__(self) -> int:
        return len(self._values)

    def quantile(self, levels: float | Floats) -> Any:
        """Quantiles with linear interpolation, as in all our figures."""
        at = np.asarray(levels) * (len(self) - 1)
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, len(self) - 1)
        quantiles = self._values[below] + (at - below) * (self._values[above] - self._values[below])
        return float(quantiles) if quantiles.ndim == 0 else quantiles

    def draws(self, level: float, rng: np.random.Generator) -> Floats:
        """The quantile in resamples of the requests."""
        more = self._independent(level) + 1
        quantiles: Floats = self.quantile(rng.beta(more * level, more * (1 - level), DRAWS))
        return quantiles

    def _independent(self, level: float) -> float:
        """The number of independent values that would determine the quantile as well."""
        number = len(self)
        if self._owners is None:
            return number
        below = self._values <= self.quantile(level)
        share = below.mean()
        of_requests = np.bincount(self._owners, weights=below - share)
        variance = float((of_requests**2).sum()) / number**2
        if not variance:  # nothing to estimate it from
            return self.requests
        return float(min(number, share * (1 - share) / variance))


def _shares(name: str, a: Result, b: Result, rng: np.random.Generator) -> Iterator[Change]:
    """The shares of requests within their objectives, and of right passkeys.

    Draws are from Beta(k + 1/2, n - k + 1/2) (Jeffreys), because resampling k = n successes would
    show no uncertainty.
    """
    for figure, of in (("goodput", _good), ("passkeys", _right)):
        (k, n), (m, o) = of(a.about["figures"][name]), of(b.about["figures"][name])
        if n and o:
            draws = [
                rng.beta(good + 0.5, number - good + 0.5, DRAWS)
                for good, number in ((k, n), (m, o))
            ]
            low, high = _ends(draws[1] - draws[0])
            yield Change(
                name, figure, "share", k / n, m / o, "difference", m / o - k / n, low, high
            )


def _good(figures: dict[str, Any]) -> tuple[int, int]:
    return figures["goodput"]["good_requests"], figures["goodput"]["requests"]


def _right(figures: dict[str, Any]) -> tuple[int, int]:
    passkeys = figures["passkeys"]
    return (passkeys["correct"], passkeys["asked"]) if passkeys else (0, 0)


def _rate(name: str, a: Result, b: Result) -> Iterator[Change]:
    """The output rate, without an interval: each run has one rate, so nothing can be resampled."""
    x, y = (result.about["figures"][name]["output_tokens_per_second"] for result in (a, b))
    if None not in (x, y) and (x or y):
        yield Change(name, "output tokens", "per second", x, y, "ratio", y / x if x else None)


def _ends(draws: Floats) -> tuple[float, float]:
    low, high = np.percentile(draws, ENDS)
    return float(low), float(high)


def _notes(a: Result, b: Result, changes: list[Change]) -> Iterator[str]:
    of_a, of_b = a.about, b.about
    if of_a["model"] != of_b["model"]:
        yield f"The models differ: A is of {of_a['model']}, B of {of_b['model']}."
    differing = sorted(_differing(of_a["profile"], of_b["profile"]))
    if differing:
        more = f" and {len(differing) - _PATHS} more" if len(differing) > _PATHS else ""
        yield f"The profiles differ in {', '.join(differing[:_PATHS])}{more}."
    if of_a["requests_sha256"] != of_b["requests_sha256"]:
        seeds = (of_a["seed"], of_b["seed"])
        why = f" (seeds {seeds[0]} and {seeds[1]})" if seeds[0] != seeds[1] else ""
        yield f"A and B sent different requests{why}."
    for letter, about, other in (("A", of_a, of_b), ("B", of_b, of_a)):
        if alone := list(_alone(about, other)):
            yield f"Only {letter} has {', '.join(alone)}."
        if (text := early_end(about)) is not None:
            yield f"{letter}: {text}"
        for verdict in about["client"]["verdicts"]:
            yield f"{letter}: {verdict}"
    for statistic, enough in ENOUGH.items():
        if any(c.statistic == statistic and c.low is None for c in changes):
            yield (
                f"{statistic} has no interval where A or B has fewer than {enough} requests, or "
                f"where it may be 0."
            )


def _alone(about: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """The classes, and the latencies of classes, that `about` has and `other` has not."""
    yield from (name for name in about["figures"] if name not in other["figures"])
    for name, of in about["figures"].items():
        if name not in other["figures"]:
            continue
        latency = other["figures"][name]["latency"]
        for metric, label in LATENCIES.items():
            if of["latency"][metric] and not latency[metric]:
                yield f"{label} of {name}"


def _differing(a: Any, b: Any, path: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _differing(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif a != b:
        yield path


def _cells(change: Change) -> tuple[str, ...]:
    show = _SHOWN.get(change.statistic, _duration)
    as_change, unit = (_factor, "") if change.kind == "ratio" else (_points, " points")
    by = interval = "-"
    if change.change is not None:
        by = f"{as_change(change.change)}{unit}"
    if change.low is not None and change.high is not None:
        interval = f"{as_change(change.low)} to {as_change(change.high)}"
    verdict = ""
    if change.significant:
        verdict = "[green]better[/green]" if change.better else "[red]worse[/red]"
    return show(change.a), show(change.b), by, interval, verdict


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.4g} ms" if seconds < 9.9995 else f"{seconds:.2f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _per_second(rate: float) -> str:
    return f"{rate:.1f} /s"


def _factor(ratio: float) -> str:
    return f"{ratio:.3f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


_SHOWN = {"share": _percent, "per second": _per_second}
