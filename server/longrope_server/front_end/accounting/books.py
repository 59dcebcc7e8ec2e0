"""Writes the usage ledger and the request log, in a thread, so that no request waits for a disk.

A failed write does not stop the server. It is logged and counted; the usage is kept in memory until
it can be written, and lines of the request log are lost.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from longrope_server.front_end.accounting.request_log import RequestLog
from longrope_server.keys.usage_ledger import Account, Amounts, UsageLedger

Part = Literal["ledger", "log"]
Failed = Callable[[Part], None]
"""Called for each write of the ledger that failed, and for each line of the log that is lost."""

RETRY_SECONDS = 1.0
SECONDS_BETWEEN_SENTENCES = 60.0
# That the last message of an answer waits for the disk. A write takes a fraction of a millisecond.
PATIENCE_SECONDS = 1.0

logger = logging.getLogger("vllm.longrope")

_Entry = tuple[Account, Amounts] | str | asyncio.Future[None]


class Books:
    """The ledger and the log of one API process, in `directory`."""

    def __init__(self, directory: Path, failed: Failed) -> None:
        """Opens both. Raises UsageError, a sentence, if the ledger cannot be opened."""
        self.directory = directory
        self.failed = failed
        self.ledger = UsageLedger(directory)
        self.log = RequestLog(directory)
        self.loop = asyncio.get_running_loop()
        self.entries: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self.unwritten: dict[Account, Amounts] = defaultdict(Amounts)
        self.complained: dict[Part, float] = {}
        threading.Thread(target=self._write_all, name="longrope-books", daemon=True).start()

    def add(self, account: Account, amounts: Amounts) -> None:
        """Adds to the ledger soon."""
        self.entries.put((account, amounts))

    def note(self, line: str) -> None:
        """Adds a line to the log soon."""
        self.entries.put(line)

    async def written(self) -> None:
        """Returns when all that was added is written or has failed, or after PATIENCE_SECONDS."""
        mark = self.loop.create_future()
        self.entries.put(mark)
        await asyncio.wait([mark], timeout=PATIENCE_SECONDS)

    def _write_all(self) -> None:
        while True:
            try:
                entries = [self.entries.get(timeout=RETRY_SECONDS if self.unwritten else None)]
            except queue.Empty:
                entries = []
            while not self.entries.empty():
                entries.append(self.entries.get())
            lines, marks = [], []
            for entry in entries:
                if isinstance(entry, tuple):
                    account, amounts = entry
                    self.unwritten[account] += amounts
                elif isinstance(entry, str):
                    lines.append(entry)
                else:
                    marks.append(entry)
            self._write_usage()
            self._write_log(lines)
            if marks:
                with suppress(RuntimeError):  # the loop has ended, and nobody waits
                    self.loop.call_soon_threadsafe(_set, marks)

    def _write_usage(self) -> None:
        if not self.unwritten:
            return
        try:
            self.ledger.add(self.unwritten.items())
        except sqlite3.Error as error:
            self.failed("ledger")
            self._complain(
                "ledger",
                f"The usage ledger cannot be written: {error}. Usage is kept in memory until it "
                "can be, and is lost if the server stops before that.",
            )
        else:
            self.unwritten.clear()
            if self.complained.pop("ledger", None):
                logger.info("The usage ledger is written again, and has all usage.")

    def _write_log(self, lines: list[str]) -> None:
        if not lines:
            return
        try:
            self.log.write(lines)
        except OSError as error:
            for _ in lines:
                self.failed("log")
            self._complain(
                "log", f"The request log cannot be written: {error.strerror}. Its lines are lost."
            )
        else:
            if self.complained.pop("log", None):
                logger.info("The request log is written again.")

    def _complain(self, part: Part, sentence: str) -> None:
        now = time.monotonic()
        if now - self.complained.get(part, -SECONDS_BETWEEN_SENTENCES) >= SECONDS_BETWEEN_SENTENCES:
            self.complained[part] = now
            logger.error(sentence)


def _set(marks: list[asyncio.Future[None]]) -> None:
    for mark in marks:
        if not mark.done():
            mark.set_result(None)
