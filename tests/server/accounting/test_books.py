"""The ledger, the log and the thread that writes them: with other processes, and a full disk."""

import asyncio
import json
import logging
import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from longrope_server.errors import UsageError
from longrope_server.front_end.accounting import request_log
from longrope_server.front_end.accounting.books import Books
from longrope_server.front_end.accounting.request_log import RequestLog
from longrope_server.keys import usage_ledger
from longrope_server.keys.command import app
from longrope_server.keys.usage_ledger import Account, Amounts, UsageLedger
from typer.testing import CliRunner

ALICE = Account("alice", "2026-11-27", 8192)
BOB = Account("bob", "2026-11-28", 0)
ONE = Amounts(requests=1, prompt_tokens=10, cached_tokens=4, generated_tokens=3)
PROCESSES = 3
WRITES = 200


def ledger_of(directory: Path) -> UsageLedger:
    return UsageLedger(directory)


def test_amounts_add_up_by_key_day_and_set(tmp_path: Path) -> None:
    ledger = UsageLedger(tmp_path / "new" / "folder")
    ledger.add([(ALICE, ONE), (BOB, ONE)])
    ledger.add([(ALICE, Amounts(requests=1, aborted=1))])
    ledger.close()
    UsageLedger(tmp_path / "new" / "folder").close()  # opened again, it is as it was
    rows = usage_ledger.read(tmp_path / "new" / "folder")
    assert rows == [(ALICE, Amounts(2, 1, 0, 0, 10, 4, 3)), (BOB, ONE)]
    assert usage_ledger.total(rows) == Amounts(3, 1, 0, 0, 20, 8, 6)
    directory = tmp_path / "new" / "folder"
    assert usage_ledger.read(directory, "bob") == [(BOB, ONE)]
    assert usage_ledger.read(directory, since="2026-11-28") == [(BOB, ONE)]


def test_a_ledger_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no usage ledger"):
        usage_ledger.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be opened"):
        UsageLedger(tmp_path / "file")
    UsageLedger(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / usage_ledger.FILE)) as database:
        database.execute("PRAGMA user_version = 7")
    for use in (usage_ledger.read, ledger_of):
        with pytest.raises(UsageError, match="has format 7; this longrope reads format 1"):
            use(tmp_path)
    (tmp_path / usage_ledger.FILE).write_bytes(b"no database" * 100)
    with pytest.raises(UsageError, match="cannot be read: file is not a database"):
        usage_ledger.read(tmp_path)


def write_both(directory: Path, process: int) -> None:
    ledger, log = UsageLedger(directory), RequestLog(directory, limit=5000)
    for number in range(WRITES):
        ledger.add([(ALICE, ONE)])
        log.write([json.dumps([process, number])])


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    UsageLedger(tmp_path).close()
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write_both, args=(tmp_path, number)) for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    [(_, amounts)] = usage_ledger.read(tmp_path)
    assert amounts.requests == PROCESSES * WRITES
    files = sorted(tmp_path.glob(f"{request_log.FILE}*"))
    assert 1 < len(files) <= 1 + request_log.OLDER_FILES
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == [[p, n] for p in range(PROCESSES) for n in range(WRITES)]


def test_the_oldest_file_is_dropped(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, limit=10)
    for number in range(15):
        log.write([f"line {number:04}"])
    files = [tmp_path / request_log.FILE]
    files += [Path(f"{files[0]}.{age}") for age in range(1, request_log.OLDER_FILES + 1)]
    assert [file.read_text() for file in files] == [f"line {n:04}\n" for n in range(14, 4, -1)]
    assert files[0].stat().st_mode & 0o077 == 0


async def test_what_was_added_is_written_when_asked(tmp_path: Path) -> None:
    books = Books(tmp_path, lambda part: None)
    for _ in range(100):
        books.add(ALICE, ONE)
        books.note("{}")
    await books.written()
    assert usage_ledger.total(usage_ledger.read(tmp_path)).requests == 100
    assert (tmp_path / request_log.FILE).read_text() == "{}\n" * 100


async def test_usage_waits_for_a_full_disk_and_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[str] = []
    caplog.set_level(logging.INFO, "vllm.longrope")
    logging.getLogger("vllm.longrope").propagate = logging.getLogger("vllm").propagate = True
    books = Books(tmp_path, failures.append)
    books.add(ALICE, ONE)
    await books.written()
    (pages,) = books.ledger.database.execute("PRAGMA page_count").fetchone()
    books.ledger.database.execute(f"PRAGMA max_page_count = {pages}")
    accounts = [Account(f"key {number}", "2026-11-27", 64) for number in range(300)]
    for account in accounts:
        books.add(account, ONE)
    await books.written()
    assert "ledger" in failures
    assert "cannot be written: database or disk is full. Usage is kept in memory" in caplog.text
    assert usage_ledger.total(usage_ledger.read(tmp_path)).requests == 1
    books.ledger.database.execute("PRAGMA max_page_count = 1000000")
    for _ in range(50):
        await asyncio.sleep(0.1)
        if usage_ledger.total(usage_ledger.read(tmp_path)).requests == 301:
            break
    assert usage_ledger.total(usage_ledger.read(tmp_path)).requests == 301
    assert "The usage ledger is written again, and has all usage." in caplog.text


async def test_lines_that_find_the_disk_full_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[str] = []
    logging.getLogger("vllm.longrope").propagate = logging.getLogger("vllm").propagate = True
    (tmp_path / request_log.FILE).symlink_to("/dev/full")
    books = Books(tmp_path, failures.append)
    for _ in range(3):
        books.note("{}")
        books.add(ALICE, ONE)
    await books.written()
    assert failures == ["log"] * 3
    assert "The request log cannot be written: No space left on device." in caplog.text
    assert usage_ledger.total(usage_ledger.read(tmp_path)).requests == 3


def test_the_command_prints_the_ledger(tmp_path: Path) -> None:
    UsageLedger(tmp_path).add([(ALICE, ONE), (BOB, ONE)])
    run = CliRunner().invoke
    table = run(app, ["usage", str(tmp_path)], env={"COLUMNS": "120"}).stdout
    assert "alice" in table
    assert "8,192" in table
    lines = run(app, ["usage", str(tmp_path), "--json", "--since", "2026-11-28"]).stdout.split("\n")
    assert [json.loads(line)["key"] for line in lines if line] == ["bob"]
    missing = run(app, ["usage", str(tmp_path / "none")])
    assert isinstance(missing.exception, UsageError)
