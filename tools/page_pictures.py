"""`python -m tools.page_pictures`: the pictures of docs/page.md, from a server that is started for
them and a Chromium. Minutes on two cores."""

import base64
import pydoc_data.topics
import tempfile
from pathlib import Path

from tests.server.documents.pdfs import pdf
from tests.server.page.browser import Browser, browsing
from tests.server.page.person import Person
from tests.serving import LONGROPE_SERVE, running

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
QUESTION = "What is the code of the locker in the hall?"
MANUAL = "\n\n".join(pydoc_data.topics.topics.values())[:50_000]  # as in the README
NOTE = "\n\nThe code of the locker in the hall is 48213."
HEIGHTS = {1400: 1180, 400: 1760}


def take(folder: Path) -> None:
    """Asks what the README asks, of its manual and a PDF beside it, and takes the pictures."""
    manual, minutes = folder / "manual.txt", folder / "minutes.pdf"
    middle = MANUAL.find("\n\n", 20_000)
    manual.write_text(MANUAL[:middle] + NOTE + MANUAL[middle:])
    minutes.write_bytes(pdf("The meeting is on Tuesday.", "The budget was approved."))
    with (
        running(LONGROPE_SERVE, folder / "log") as server,
        browsing(folder / "profile") as browser,
    ):
        browser.size(1400, HEIGHTS[1400])
        person = Person(browser, f"{server.url}/")
        person.wait_for_text("#server-state", "Ready")
        person.settle("#temperature", "0")
        person["#settings summary"].click()
        person.ask("Name three colours.")
        person.wait_for_end()
        person.choose(minutes, manual)
        person.wait_for_text("#ruler", "a prompt for the factor set of 32,768")
        person.ask(QUESTION)
        person.wait_for_end()
        for width, height in HEIGHTS.items():
            browser.size(width, height)
            _save(browser, PICTURES / f"page-{width}.png")


def _save(browser: Browser, path: Path) -> None:
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    path.write_bytes(base64.b64decode(shot["data"]))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        take(Path(folder))
