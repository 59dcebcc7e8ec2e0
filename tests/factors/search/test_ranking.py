"""The comparison of two losses' rankings, on a tiny search."""

import json
import random
from pathlib import Path

import pytest
import typer
from longrope_factors.cli import app
from typer.testing import CliRunner

from bench import ranking
from tests.factors import settings_files, tiny


@pytest.mark.long
def test_the_sets_of_a_search_are_measured_again(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", tiny.byte_level())
    rng = random.Random(0)
    texts = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text("".join(rng.choices("ab cd", k=400)))
        texts += ["--corpus", str(tmp_path / f"{name}.txt")]
    found = tmp_path / "found.json"
    settings = settings_files.written(
        tmp_path,
        search={"population": 6, "racing": False},
        space={"search_start_tokens": False},
        machine={"threads": 1},
    )
    searched = CliRunner().invoke(
        app,
        [
            *("search", "--model", str(model), "--length", "128", *texts, "-o", str(found)),
            *("--settings", str(settings), "--iterations", "0", "--attention-factor", "1"),
        ],
    )
    assert searched.exit_code == 0, searched.output
    bench = typer.Typer()
    bench.command()(ranking.main)
    log, output = found.with_suffix(".jsonl"), tmp_path / "ranking.jsonl"
    arguments = [str(log), "--model", str(model), "-o", str(output), "--windows-of", "16"]
    done = CliRunner().invoke(bench, [*arguments, *texts])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert f"{len(rows)} sets (all) at 128 tokens: Spearman" in done.output
    assert {len(row["whole"]) for row in rows} == {len(row["skipped"]) for row in rows} == {2}
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    refused = CliRunner().invoke(bench, [*arguments, *texts[:2]])
    assert (refused.exit_code, len(refused.stderr.strip().splitlines())) == (2, 1)
    assert "a set has 2 losses where --corpus names 1 texts" in refused.stderr
