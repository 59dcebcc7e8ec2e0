"""Debian's Chromium, driven as a person would: without network services of its own."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = (
    "Chromium and its driver are not installed (Debian: apt install chromium chromium-driver)."
)
WITHOUT_NETWORK = ("chrome:", "data:")  # as the browser's own pages have them
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser(webdriver.Chrome):
    """A Chromium that notes every request and every complaint."""

    def size(self, width: int, height: int) -> None:
        """Sets the size of the page, below the 500 pixels of the narrowest window, too."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": width < 500})
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def complaints(self) -> list[str]:
        """What the console says since the last call, violations of the policy included."""
        return [entry["message"] for entry in self.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses on a network that were asked for since the last call."""
        events: list[dict[str, Any]] = [
            json.loads(entry["message"])["message"]
            for entry in self.get_log("performance")  # type: ignore[no-untyped-call]
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
            and not event["params"]["request"]["url"].startswith(WITHOUT_NETWORK)
        ]


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile in the folder `profile`."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_argument("about:blank")  # a new tab has hundreds of files of its own
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Browser(options, Service(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def origin(url: str) -> str:
    """The scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
