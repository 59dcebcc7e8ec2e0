"""The log of a search: what it keeps, and what it refuses."""

import json
import math
from pathlib import Path

import pytest
from longrope_factors.search.evolving.genome import Genome
from longrope_factors.search.journal import Journal

SETTINGS = {"length": 128, "seed": 0, "attention_factor": [1.0, 1.2]}
EVALUATION = {
    "genome": "a",
    "document": 0,
    "loss": 3.25,
    "seconds": 1.0,
    "factors": [1.0, 2.0],
    "start_tokens": 4,
    "attention_factor": 1.1,
}
ONE, OTHER = Genome((1.0, 2.0), 4, 1.1), Genome((1.0, 2.5), 4, 1.1)


def opened(path: Path, **changes: object) -> Journal:
    return Journal(path, {**SETTINGS, **changes}, "2026-11-23")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "log.jsonl"
    journal = opened(path)
    journal.add(ONE, 0, 3.25, 1.0)
    journal.add(OTHER, 1, 3.5, 1.0)
    return path


def test_losses_are_there_again(log: Path) -> None:
    journal = Journal(log, dict(SETTINGS), "2027-01-01")
    assert journal.loss(ONE, 0) == 3.25
    assert journal.loss(OTHER, 1) == 3.5
    assert journal.loss(ONE, 1) is None
    assert journal.started == "2026-11-23"


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_line_is_cut_off(log: Path, cut: int) -> None:
    content = log.read_bytes()
    log.write_bytes(content[:-cut])
    journal = opened(log)
    assert (journal.loss(ONE, 0), journal.loss(OTHER, 1)) == (3.25, None)
    journal.add(OTHER, 1, 3.5, 1.0)
    assert log.read_bytes() == content


def test_a_torn_first_line_starts_anew(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:20])
    assert len(opened(log)) == 0
    assert len(opened(log)) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"length": 256}, "length was 128, not 256"),
        ({"attention_factor": [1.0, 1.3]}, r"attention_factor was \[1.0, 1.2\]"),
        ({"windows_of": 64}, "windows_of was null, not 64"),
    ],
)
def test_another_searchs_log_is_refused(log: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        opened(log, **changes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"loss": 3.25, "geno\n', "line 4 is damaged"),
        (b"\xff\xfe\n", "line 4 is damaged"),
        (b'{"loss": 3.25}\n', "line 4 is not an evaluation"),
        *(
            (json.dumps({**EVALUATION, **changes}).encode() + b"\n", "line 4 is not an evaluation")
            for changes in ({"loss": "3.25"}, {"loss": math.nan}, {"genome": [1]}, {"document": ""})
        ),
    ],
)
def test_a_corrupt_line_is_named(log: Path, line: bytes, words: str) -> None:
    before = log.read_bytes()
    log.write_bytes(before + line)
    with pytest.raises(ValueError, match=words):
        opened(log)
    assert log.read_bytes() == before + line


def test_a_setting_that_only_the_log_has_is_another_search(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    opened(path, windows_of=64).add(ONE, 0, 3.25, 1.0)
    with pytest.raises(ValueError, match="windows_of was 64, not null"):
        opened(path)


@pytest.mark.parametrize(
    "header", ['{"model": "x"}', '{"search": {}}', '{"search": {}, "started": 1}']
)
def test_another_file_is_refused(log: Path, header: str) -> None:
    log.write_text(f"{header}\n")
    with pytest.raises(ValueError, match="is not the log of a search"):
        opened(log)
