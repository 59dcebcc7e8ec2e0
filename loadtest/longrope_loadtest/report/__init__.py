"""The report of a result: one HTML page that loads nothing else."""

from pathlib import Path

from longrope_loadtest.results.results import Result


def write_report(result: Result) -> Path:
    """Write report.html to the result's directory and return its path."""
    # Importing matplotlib takes a second, and `longrope loadtest --help` should not wait for it.
    from longrope_loadtest.report import page

    return page.write(result)
