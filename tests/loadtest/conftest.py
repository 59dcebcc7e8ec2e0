from collections.abc import Iterator

import pytest

from tests.loadtest.mocking import MockServer, serving


@pytest.fixture(scope="session")
def _one_server() -> Iterator[MockServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(_one_server: MockServer) -> MockServer:
    """A mock server that has forgotten the tests before."""
    _one_server.truths()
    return _one_server
