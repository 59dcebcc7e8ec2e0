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
    need no other; on the way out it is stopped as an operator would."""
    log = tmp_path_factory.mktemp("embedded") / "log"
    with running((*LONGROPE_SERVE, *document.serve_flags()), log) as server:
        yield server


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
