"""Lets nobody through without a key, except to the open routes."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from longrope_server.front_end.openai_error import Count, Refusal, ignore_refusal
from longrope_server.keys.key_file import Key, Keys

KEY = "longrope.key"
# Methods without a body, which would take memory and a place in the queue.
READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Authentication:
    """Answers 401 in place of `app` without a valid key; else puts the key into `scope[KEY]`.

    A key comes as OpenAI's clients send it (`Authorization: Bearer`) or as Anthropic's do
    (`x-api-key`). open_paths: paths that can be read (READING) without a key.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, open_paths: Collection[str], refused: Count = ignore_refusal
    ) -> None:
        self.app = app
        self.keys = keys
        self.open_paths = open_paths
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one connection."""
        if scope["type"] not in ("http", "websocket") or self._is_open(scope):
            await self.app(scope, receive, send)
            return
        token = _token(Headers(scope=scope))
        key = self.keys.find(token) if token else None
        if key is None or key.has_expired:
            refusal = _expired() if key else _unknown() if token else _missing()
            self.refused(refusal.reason)
            await refusal.send(scope, receive, send)
            return
        scope[KEY] = key
        await self.app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        return scope.get("method") in READING and path_of(scope) in self.open_paths


def path_of(scope: Scope) -> str:
    """The path of a request below the application's root."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def key_of(scope: Scope) -> Key | None:
    """The key of a request; None if none is required."""
    key: Key | None = scope.get(KEY)
    return key


def _token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip()


def _missing() -> Refusal:
    return _unauthorized(
        "No API key came with the request: send one as 'Authorization: Bearer KEY'."
    )


def _unknown() -> Refusal:
    return _unauthorized("The API key that came with the request is not known here.")


def _expired() -> Refusal:
    return _unauthorized(
        "The API key that came with the request has expired.", reason="key_expired"
    )


def revoked() -> Refusal:
    """The refusal that ends the running requests of a key that is no longer valid."""
    return _unauthorized("The API key of this request was revoked.", reason="key_revoked")


def _unauthorized(message: str, reason: str = "invalid_api_key") -> Refusal:
    headers = {"WWW-Authenticate": "Bearer"}
    return Refusal(401, "invalid_api_key", message, reason=reason, headers=headers)
