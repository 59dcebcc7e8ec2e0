"""Where the server says that the page is."""

import logging
from argparse import Namespace

import pytest
from longrope_server.front_end.page.announced import Announced, address_of
from starlette.applications import Starlette

from tests.server.asgi import Connection


def args(**given: str | int | None) -> Namespace:
    defaults = {"host": None, "port": 8000, "root_path": None, "ssl_certfile": None, "uds": None}
    return Namespace(**{**defaults, **given})


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (args(), "http://127.0.0.1:8000/"),
        (args(host="0.0.0.0", port=80), "http://127.0.0.1:80/"),
        (args(host="10.0.0.5", root_path="/models"), "http://10.0.0.5:8000/models/"),
        (args(host="::1", ssl_certfile="cert.pem"), "https://[::1]:8000/"),
        (args(uds="/run/longrope"), None),
    ],
)
def test_the_address_is_one_that_a_browser_here_can_open(
    given: Namespace, address: str | None
) -> None:
    assert address_of(given) == address


async def test_it_is_logged_once_the_server_has_started(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette()
    app.state.args = args()
    connection = Connection({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    with caplog.at_level(logging.INFO, "vllm.longrope"):
        await Announced(app)({"type": "lifespan", "app": app}, connection.receive, connection.send)
    assert caplog.messages == ["To ask in a browser, open http://127.0.0.1:8000/"]
