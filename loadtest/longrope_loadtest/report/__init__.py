"""The report of a result: one HTML page that needs nothing else, and asks nobody for anything."""

from pathlib import Path

from longrope_loadtest.results.results import Result


def write_report(result: Result) -> Path:
    """Writes report.html into the result's directory and returns its path."""
    # matplotlib takes a second to import, which `longrope loadtest --help` need not wait for.
    from longrope_loadtest.report import page

    return page.write(result)
