"""Ask the server as directly as the load is sent to it."""

import ssl
from typing import Any


def direct() -> dict[str, Any]:
    """Arguments of httpx: no proxy of the environment, and the system's certificates.

    aiohttp, which sends the load, does the same by default.
    """
    return {"trust_env": False, "verify": ssl.create_default_context()}
