"""Compare how windows with skipped positions and whole long windows rank factor sets.

`scripts/bench-ranking LOG ...`: the sets in the log of a search at full length are measured again
on windows, and the two rankings compared.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from longrope_factors import figures
from longrope_factors.cli_errors import one_sentence
from longrope_factors.factor_file import model_directory
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files import json_lines
from longrope_factors.factor_file.schema import FactorSet, Provenance
from longrope_factors.models import texts
from longrope_factors.search import documents
from longrope_factors.search.task import Laboratory, Worker
from scipy import stats

_RESAMPLED = 10_000


def main(
    log: Annotated[
        Path, typer.Argument(help="Log of a search at full length, with racing = false.")
    ],
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory of that search.")],
    corpus: Annotated[
        list[Path], typer.Option(metavar="TEXTFILE", help="Texts of that search, in its order.")
    ],
    output: Annotated[
        Path, typer.Option("-o", help="Results, JSON Lines; a plot is written beside it.")
    ],
    windows_of: Annotated[int, typer.Option(metavar="W", help="Tokens of a window.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed that draws the positions.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Print Spearman's rank correlation of the two losses, of all sets and of the better half."""
    with one_sentence():
        length, whole = _logged(log, len(corpus))
        read = texts.read(corpus, model, windows_of * documents.WINDOWS)
        placed = [
            documents.skipping_to(length, window, windows_of, seed)
            for window in documents.windows(read, windows_of * documents.WINDOWS, 1)
        ]
        model_directory.weights(model)
        worker = Worker(Laboratory(model, placed, None, "bfloat16", threads))
        rows = []
        with output.open("w") as file:
            for factor_set, losses in whole:
                skipped = [worker.loss(factor_set, index) for index in range(len(placed))]
                rows.append((float(np.mean(losses)), float(np.mean(skipped))))
                record = {
                    "factors": factor_set.factors,
                    "attention_factor": factor_set.attention_factor,
                    "whole": losses,
                    "skipped": skipped,
                }
                file.write(json.dumps(record) + "\n")
                file.flush()
        rows.sort()
        better = rows[: (len(rows) + 1) // 2]
        for name, some in (("all", rows), ("the better half", better)):
            rho, low, high = _spearman(some)
            typer.echo(
                f"{len(some)} sets ({name}) at {length} tokens: Spearman {rho:.3f}, "
                f"95 % interval {low:.3f} to {high:.3f}"
            )
        _draw(rows, length, windows_of, output.with_suffix(".png"))


def _logged(log: Path, texts_of: int) -> tuple[int, list[tuple[FactorSet, list[float]]]]:
    """The length of a search, and its sets with their loss on each text."""
    header, *records = [json.loads(line) for line in json_lines.whole(log)]
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    sets: dict[str, dict[str, Any]] = {}
    for record in records:
        losses[record["genome"]][record["document"]] = record["loss"]
        sets[record["genome"]] = record
    length = header["search"]["length"]
    found = []
    for genome, by_document in losses.items():
        if len(by_document) != texts_of:
            raise UsageError(
                f"{log}: a set has {len(by_document)} losses where --corpus names {texts_of} "
                "texts: it should be the log of a search without racing, on one window of each."
            )
        record = sets[genome]
        factor_set = FactorSet(
            max_length=length,
            factors=record["factors"],
            start_tokens=record["start_tokens"],
            attention_factor=record["attention_factor"],
            provenance=_LOGGED,
        )
        found.append((factor_set, [by_document[document] for document in sorted(by_document)]))
    return length, found


def _spearman(rows: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Rank correlation, and an interval by resampling the sets."""
    pairs = np.array(rows)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLED):
        some = pairs[generator.integers(0, len(pairs), len(pairs))]
        if len(np.unique(some[:, 0])) > 1:
            drawn.append(stats.spearmanr(some).statistic)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(stats.spearmanr(pairs).statistic), float(low), float(high)


def _draw(rows: Sequence[tuple[float, float]], length: int, window: int, path: Path) -> None:
    pyplot = figures.pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for axis, some in zip(axes, (rows, rows[: (len(rows) + 1) // 2]), strict=True):
        axis.scatter(*zip(*some, strict=True), s=18)
        axis.set_xlabel(f"loss over {length:,} tokens (nats)")
        axis.set_ylabel(f"loss over windows of {window:,} that skip to it (nats)")
        axis.set_title(f"{len(some)} sets")
        axis.grid(alpha=0.3)
    figures.write(figure, path)


_LOGGED = Provenance(
    method="longrope", source="a logged candidate", date="2024-02-21", tool_version="0"
)

if __name__ == "__main__":
    typer.run(main)
