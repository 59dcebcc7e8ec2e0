from collections.abc import Iterator
from pathlib import Path

import pytest
from longrope_factors.factor_file import schema

from tests.server import models
from tests.server.clients import document
from tests.serving import LONGROPE_SERVE, Server, running


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`longrope serve` with the embedded model and the flags of docs/clients.md, for all tests that
    need no other; the last of them ends it."""
    log = tmp_path_factory.mktemp("embedded") / "log"
    command = (*LONGROPE_SERVE, *document.serve_flags())
    with running(command, log) as server:
        yield server


@pytest.fixture
def dying_server(embedded_server: Server) -> Server:
    """The same, for the test that ends it by killing a process of it."""
    embedded_server.exit_status = 1
    return embedded_server


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that ends the server of all comes after them."""
    items.sort(key=lambda item: "dying_server" in getattr(item, "fixturenames", ()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory without longrope."""
    return models.write_model(tmp_path / "plain", models.config())


@pytest.fixture
def longrope_model(tmp_path: Path) -> Path:
    """A model directory with short and long lists in its config."""
    return models.write_model(tmp_path / "two-lists", models.longrope_config())


@pytest.fixture
def factors(tmp_path: Path) -> Path:
    """A factor file for both, up to 64, 128 and 512 tokens."""
    path = tmp_path / "factors.json"
    schema.save(models.factor_file(64, 128, 512), path)
    return path
