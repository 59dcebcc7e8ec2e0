"""`longrope key usage`: the ledger as a table."""

from pathlib import Path

import pytest
from longrope_server.keys import usage_ledger
from longrope_server.keys.command import app
from longrope_server.keys.usage_ledger import Account, Amounts, UsageLedger
from typer.testing import CliRunner


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_names_and_numbers_are_whole_however_narrow_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    amounts = Amounts(*[10**9 + place for place in range(len(usage_ledger.COLUMNS))])
    names = ["[/x]", "[red]ann", ":smile:", "a-team-whose-name-is-as-long-as-a-sentence"]
    ledger = UsageLedger(tmp_path)
    ledger.add((Account(name, "2026-11-01", 131_072), amounts) for name in names)
    ledger.close()
    result = CliRunner().invoke(app, ["usage", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    rows = [line.split() for line in result.stdout.splitlines()]
    numbers = [f"{10**9 + place:,}" for place in range(len(usage_ledger.COLUMNS))]
    for name in names:
        assert [name, "2026-11-01", "131,072", *numbers] in rows
        assert [name, "total", *numbers] in rows
    assert rows[1][3:6] == ["requests", "aborted", "failed"]
