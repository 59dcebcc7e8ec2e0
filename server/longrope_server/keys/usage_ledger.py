"""What each key has used, by day and factor set: one SQLite file that survives a killed server.

All API processes of a server write to the same file, in WAL mode: a reader never waits, and what a
transaction has committed is there after `kill -9`. (After a power cut, the last moments may be
missing: a commit is not flushed to the disk.)
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from longrope_server.errors import UsageError

FILE = "usage.sqlite3"  # in the directory of `--accounting`
FORMAT = 1
WRITE_SECONDS = 30.0  # to wait for another process that writes


@dataclass
class Amounts:
    """What a number of requests to the engine took.

    aborted: those of `requests` whose client left, or that the server ended. failed: those that the
    engine could not serve. promoted: those that outgrew a set. cached_tokens: those of
    prompt_tokens that the prefix cache had.
    """

    requests: int = 0
    aborted: int = 0
    failed: int = 0
    promoted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Account:
    """What amounts are summed by. day: YYYY-MM-DD, in UTC. factor_set: max_length; 0 without."""

    key: str
    day: str
    factor_set: int


COLUMNS = [field.name for field in fields(Amounts)]
TABLE = (
    "CREATE TABLE IF NOT EXISTS usage (key TEXT, day TEXT, factor_set INTEGER, "
    + "".join(f"{column} INTEGER NOT NULL, " for column in COLUMNS)
    + "PRIMARY KEY (key, day, factor_set)) WITHOUT ROWID"
)
ADD = (
    f"INSERT INTO usage VALUES ({', '.join('?' * (3 + len(COLUMNS)))}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{column} = {column} + excluded.{column}" for column in COLUMNS)
)


class UsageLedger:
    """Adds to the ledger in `directory`, from one thread of one process."""

    def __init__(self, directory: Path) -> None:
        """Opens the ledger, or makes it. Raises UsageError, a sentence."""
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.database = sqlite3.connect(
                directory / FILE,
                isolation_level=None,
                timeout=WRITE_SECONDS,
                check_same_thread=False,
            )
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = NORMAL")
            if _check_format(self.database, directory / FILE) == 0:
                self.database.execute(TABLE)
                self.database.execute(f"PRAGMA user_version = {FORMAT}")
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"The usage ledger {directory / FILE} cannot be opened: {error}."
            ) from None

    def add(self, amounts: Iterable[tuple[Account, Amounts]]) -> None:
        """Adds all of them in one transaction. Raises sqlite3.Error, having added none."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            rows = [astuple(account) + astuple(amount) for account, amount in amounts]
            self.database.executemany(ADD, rows)
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes the file."""
        self.database.close()


def read(directory: Path, key: str | None = None, since: str = "") -> list[tuple[Account, Amounts]]:
    """What the ledger in `directory` holds, by key, day and set; of one key, or from a day on.

    Raises UsageError, a sentence.
    """
    path = directory / FILE
    try:
        is_there = path.is_file()
    except OSError as error:
        raise UsageError(f"The usage ledger {path} cannot be read: {error.strerror}.") from None
    if not is_there:
        raise UsageError(f"There is no usage ledger {path}: it is made by `serve --accounting`.")
    chosen, values = "day >= ?", [since]
    if key is not None:
        chosen, values = chosen + " AND key = ?", [since, key]
    try:
        with closing(sqlite3.connect(path, timeout=WRITE_SECONDS)) as database:
            _check_format(database, path)
            rows = database.execute(
                f"SELECT * FROM usage WHERE {chosen} ORDER BY key, day, factor_set", values
            ).fetchall()
    except sqlite3.Error as error:
        raise UsageError(f"The usage ledger {path} cannot be read: {error}.") from None
    return [(Account(*row[:3]), Amounts(*row[3:])) for row in rows]


def total(amounts: Iterable[tuple[Account, Amounts]]) -> Amounts:
    """The sum of what `read` has returned."""
    return sum((amount for _, amount in amounts), Amounts())


def _check_format(database: sqlite3.Connection, path: Path) -> int:
    """The format of a ledger; 0 for a new one. Raises UsageError if it is another than ours."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise UsageError(
            f"The usage ledger {path} has format {version}; this longrope reads format {FORMAT}."
        )
    return int(version)
