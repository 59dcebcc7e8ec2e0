from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.loadtest.mocking import MockServer, serving

# Of hypothesis, per example: on a shared machine one may take as long as it likes.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


@pytest.fixture(scope="session")
def _one_server() -> Iterator[MockServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _little_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred runs here are of a few requests each."""
    monkeypatch.setattr("longrope_loadtest.run.driving.LEAD", 0.03)


@pytest.fixture
def server(_one_server: MockServer) -> MockServer:
    """A mock server that has forgotten the tests before."""
    _one_server.truths()
    return _one_server
