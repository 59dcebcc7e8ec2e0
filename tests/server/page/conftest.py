from collections.abc import Iterator
from dataclasses import replace

import pytest
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key

from tests.server.page.browser import CHROMIUM, DRIVER, MISSING, Browser, browsing
from tests.server.page.person import Person, before_the_page
from tests.serving import LONGROPE_SERVE, Server, running

KEY = "lr-of-the-page"
BEHIND = "/behind/a/proxy"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded model as it is served behind a proxy's path, to those who have a key."""
    folder = tmp_path_factory.mktemp("page")
    keys = folder / "keys"
    keys.write_text(key_file.line_of(Key("alice", key_file.digest_of(KEY))))
    flags = (f"--api-key-file={keys}", f"--root-path={BEHIND}")
    with running((*LONGROPE_SERVE, *flags), folder / "log") as server:
        yield replace(server, url=f"{server.url}{BEHIND}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip(MISSING)
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def stranger(server: Server, browser: Browser) -> Iterator[Person]:
    """Someone without a key."""
    with before_the_page(browser, f"{server.url}/") as stranger:
        yield stranger


@pytest.fixture
def person(stranger: Person) -> Person:
    """Someone who has given the key."""
    stranger.wait_for_text("#refusal", "Give a key under Settings.")
    stranger.give_key(KEY)
    stranger.wait_for_text("#model", "smollm2-135m, up to 32,768 tokens")
    stranger.wait_for_text("#server-state", "Ready")
    return stranger
