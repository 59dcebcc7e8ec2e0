"""Says where the page is, once the server takes requests."""

import logging
import multiprocessing
from argparse import Namespace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVERY_ADDRESS = (None, "", "0.0.0.0", "::")
FIRST_PROCESSES = ("MainProcess", "ApiServer_0")  # one of several API processes says it

logger = logging.getLogger("vllm.longrope")  # vLLM gives its own loggers a handler


class Announced:
    """Logs the address of the page when `app` has started."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def started(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                address = address_of(scope["app"].state.args)
                if address and multiprocessing.current_process().name in FIRST_PROCESSES:
                    logger.info("To ask in a browser, open %s", address)

        await self.app(scope, receive, started)


def address_of(args: Namespace) -> str | None:
    """The page's address on this machine; None on a Unix socket. args: those of `vllm serve`."""
    if args.uds:
        return None
    host = "127.0.0.1" if args.host in EVERY_ADDRESS else args.host
    scheme = "https" if args.ssl_certfile else "http"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{args.port}{args.root_path or ''}/"
