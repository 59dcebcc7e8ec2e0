"""Serves the page and its files: static, without a key, and shut off from other addresses."""

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
FILES = {file.name: file for file in (Path(__file__).parent / "files").iterdir()}
ROOT = "/"
PATHS = frozenset({"", ROOT, *(f"/page/{name}" for name in FILES)})

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_routes(app: FastAPI) -> None:
    """Adds the page to vLLM's application."""
    app.add_api_route(ROOT, page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/page/{name}", file, methods=["GET", "HEAD"], include_in_schema=False)


async def page() -> Response:
    """`GET /`."""
    return _answer("page.html")


async def file(request: Request) -> Response:
    """`GET /page/NAME`: what page.html names."""
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404)
    return _answer(name)


def _answer(name: str) -> Response:
    kind = TYPES[FILES[name].suffix]
    return Response(FILES[name].read_bytes(), headers=HEADERS, media_type=kind)
