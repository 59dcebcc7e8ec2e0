"""What is written during a run, so that a crash loses nothing that was done."""

import contextlib
import json
from pathlib import Path

from longrope_loadtest.errors import UsageError
from longrope_loadtest.results.results import BEGUN, REQUESTS, begun, holds_a_result
from longrope_loadtest.run.driving import Run
from longrope_loadtest.run.record import Record
from longrope_loadtest.text_files import writing


class Journal:
    """Writes what is known of a run at its start, and each request when it ends."""

    def __init__(self, directory: Path, run: Run, seed: int) -> None:
        """Open the files.

        Raises:
            UsageError: Another run has begun in the directory, or it cannot be written.
        """
        self._path = directory / REQUESTS
        self._run = run
        self._error: OSError | None = None
        about = json.dumps(begun(run, seed), indent=1) + "\n"
        with writing(directory):
            if self._path.exists():  # since the requests were made, which may take long
                raise holds_a_result(directory)
            # Line by line, so that a killed process leaves every request that had ended.
            self._file = self._path.open("x", encoding="utf-8", buffering=1)
            try:
                (directory / BEGUN).write_text(about, encoding="utf-8")
            except OSError:  # no run has begun
                self._file.close()
                for path in (self._path, directory / BEGUN):
                    path.unlink(missing_ok=True)
                raise

    def dispatched(self, record: Record) -> None:
        """Do nothing."""

    def ended(self, record: Record) -> None:
        """Write one line; if it cannot be written, end the run."""
        if self._error is not None:
            return
        try:
            self._file.write(json.dumps(record.as_json(), separators=(",", ":")) + "\n")
        except OSError as error:
            self._error = error
            self._run.stop()

    def close(self) -> None:
        """Close the file.

        Raises:
            UsageError: A request could not be written.
        """
        with contextlib.suppress(OSError):  # which `ended` has met
            self._file.close()
        if self._error is not None:
            raise UsageError(
                f"{self._path} cannot be written: {self._error.strerror}. This ended the run; "
                f"`longrope loadtest report {self._path.parent}` shows the requests until then."
            ) from self._error
