"""What a person does with the page, and sees on it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.server.page.browser import Browser, origin

SECONDS = 30
ANSWER_SECONDS = 400

Seen = TypeVar("Seen")

INPUT = """
const input = Object.assign(document.createElement("input"), {type: "file", multiple: true});
return document.body.appendChild(input);
"""
DROP = """
const [input, target] = arguments;
const dataTransfer = new DataTransfer();
for (const file of input.files) dataTransfer.items.add(file);
const options = {dataTransfer, bubbles: true, cancelable: true};
target.dispatchEvent(new DragEvent("drop", options));
input.remove();
"""


@contextmanager
def before_the_page(browser: Browser, url: str) -> Iterator["Person"]:
    """Someone at `url`. Nothing is asked of another origin, and no policy is violated."""
    browser.size(1400, 1000)
    browser.get("about:blank")
    browser.complaints()
    browser.requests()
    yield Person(browser, url)
    complaints = [line for line in browser.complaints() if "Failed to load resource" not in line]
    assert complaints == []
    assert {origin(asked) for asked in browser.requests()} == {origin(url)}


class Person:
    """Someone in front of the page at `url`, with a new session."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        browser.get(url)
        browser.execute_script("sessionStorage.clear()")
        browser.get(url)

    def __getitem__(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What the elements say; '' if there are none."""
        return "\n".join(
            part.text for part in self.browser.find_elements(By.CSS_SELECTOR, selector)
        )

    def wait_for(self, see: Callable[[], Seen], seconds: float = SECONDS) -> Seen:
        """The first true value of `see`."""
        deadline = time.monotonic() + seconds
        while not (seen := see()):
            assert time.monotonic() < deadline, self.text("body")
            time.sleep(0.1)
        return seen

    def wait_for_text(self, selector: str, part: str, seconds: float = SECONDS) -> None:
        self.wait_for(lambda: part in self.text(selector), seconds)

    def settle(self, selector: str, value: str) -> None:
        """Fills a field of the settings, and leaves it."""
        if not self["#settings"].get_attribute("open"):
            self["#settings summary"].click()
        self[selector].clear()
        self[selector].send_keys(value, Keys.TAB)

    def give_key(self, key: str) -> None:
        self.settle("#key", key)

    def choose(self, *files: Path) -> None:
        self["#files"].send_keys("\n".join(map(str, files)))

    def drop(self, *files: Path) -> None:
        """Drops files as a file manager would."""
        held = self.browser.execute_script(INPUT)
        held.send_keys("\n".join(map(str, files)))
        self.browser.execute_script(DROP, held, self["#drop"])

    def ask(self, question: str) -> None:
        self["#question"].clear()
        self["#question"].send_keys(question)
        self["#ask"].click()

    def wait_for_end(self) -> str:
        """What became of the newest answer, once it has ended."""
        self.wait_for(lambda: self["#ask"].is_displayed(), ANSWER_SECONDS)
        return self.text(".exchange:first-child .stage")

    @property
    def focused(self) -> str:
        """The id, or else the name, of the element that has the focus."""
        element = self.browser.switch_to.active_element
        return element.get_attribute("id") or element.tag_name

    def press(self, keys: str, holding: str = "") -> None:
        """Types `keys` where the focus is, while the key `holding` is down."""
        actions = ActionChains(self.browser, duration=0)
        if holding:
            actions.key_down(holding).send_keys(keys).key_up(holding).perform()
        else:
            actions.send_keys(keys).perform()

    @property
    def scrolls_sideways(self) -> bool:
        return bool(
            self.browser.execute_script(
                "const {scrollWidth, clientWidth} = document.documentElement;"
                "return scrollWidth > clientWidth"
            )
        )
