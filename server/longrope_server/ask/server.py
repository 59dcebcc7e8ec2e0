"""Requests to the server that is asked, and its refusals as sentences."""

import ipaddress
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from longrope_server.ask.untrusted import at, quoted
from longrope_server.errors import UsageError

CONNECT_SECONDS = 10
SILENT_SECONDS = 3600  # enough for a prefill of millions of tokens without progress
RETRIES = 5
LONGEST_WAIT = 24 * 3600
BUSY = (429, 503)

OnBusy = Callable[[int, float, int], None]
"""Called before a wait, with the status, the seconds, and the number of the retry to come."""


class ServerError(Exception):
    """The server failed; the message is one sentence."""


class Server:
    """An OpenAI-compatible server at `url`; closed at the end of a `with` block.

    key: sent as a bearer token. private: texts that, like the key, no message may repeat.
    """

    def __init__(self, url: str, key: str | None, private: Sequence[str], on_busy: OnBusy) -> None:
        self.url = root(url)
        self.private = [*private, key or ""]
        self.on_busy = on_busy
        headers = {"Authorization": f"Bearer {sendable(key)}"} if key else {}
        self.client = _client(self.url, headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.close()

    def json(
        self, method: str, path: str, body: Any = None, accepted: Collection[int] = ()
    ) -> Any | None:
        """The JSON document of an answer; None for a status in `accepted`."""
        with self.answered(method, path, body, accepted) as response:
            if not response.is_success:
                return None
            response.read()
            try:
                return response.json()
            except (ValueError, RecursionError):  # RecursionError if it is nested too deeply
                raise UsageError(
                    f"{path} of {self.url} is not JSON: name an OpenAI-compatible server with "
                    "--url."
                ) from None

    @contextmanager
    def answered(
        self, method: str, path: str, body: Any = None, accepted: Collection[int] = ()
    ) -> Iterator[httpx.Response]:
        """A response, successful or with a status in `accepted`, whose body is still to be read.

        If the server is busy and says for how long, waits and tries again. Raises UsageError for
        what the user can fix and ServerError for anything else, also while the body is read.
        """
        try:
            for retry in range(1, RETRIES + 2):
                with self.client.stream(method, path, json=body) as response:
                    wait = _seconds_to_wait(response)
                    if wait is None or retry > RETRIES:
                        if not response.is_success and response.status_code not in accepted:
                            raise self._refusal(response)
                        yield response
                        return
                self.on_busy(response.status_code, wait, retry)
                time.sleep(wait)
        except httpx.ProxyError as error:
            raise UsageError(
                f"The proxy that the environment names does not lead to {self.url} "
                f"({quoted(str(error), *self.private)}): leave that address out with NO_PROXY, or "
                "name another one with --url."
            ) from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if "[SSL" in str(error):
                raise UsageError(
                    f"{self.url} cannot be reached by TLS ({error}): name the certificate that its "
                    "own can be checked with in SSL_CERT_FILE, or another address with --url."
                ) from None
            raise UsageError(
                f"Nothing answers at {self.url} ({error}): start a server there with `longrope "
                "serve`, or name another one with --url."
            ) from None
        except httpx.TimeoutException:
            raise ServerError(f"{self.url} was silent for {SILENT_SECONDS:,} seconds.") from None
        except httpx.RequestError:
            raise ServerError(
                f"{self.url} closed the connection before the answer was complete."
            ) from None

    def says(self, document: Any) -> str:
        """A colon and the message of an error document, to follow a sentence; '' without one."""
        message = quoted(at(document, "error", "message"), *self.private)
        return f": {message}" if message else ""

    def _refusal(self, response: httpx.Response) -> UsageError | ServerError:
        status = response.status_code
        if response.has_redirect_location:
            where = quoted(response.headers["Location"], *self.private)
            return UsageError(
                f"{self.url} redirects {response.request.url.path} to {where}: give the address "
                "that it leads to with --url."
            )
        response.read()
        try:
            says = self.says(response.json())
        except (ValueError, RecursionError):
            says = ""
        if status == httpx.codes.UNAUTHORIZED:
            how = "one with --api-key, or in LONGROPE_API_KEY or OPENAI_API_KEY."
            if self._has_key and says:
                return UsageError(
                    f"{self.url} refuses the API key that was given{says}. Give {how}"
                )
            given = (
                "does not know the API key that was given" if self._has_key else "asks for a key"
            )
            return UsageError(f"{self.url} {given}: give {how}")
        if status in BUSY:
            return ServerError(f"{self.url} is too busy ({status}){says}.")
        sentence = f"{self.url} answers {response.request.url.path} with status {status}{says}."
        return UsageError(sentence) if response.is_client_error else ServerError(sentence)

    @property
    def _has_key(self) -> bool:
        return "Authorization" in self.client.headers


def root(url: str) -> str:
    """The address of a server from --url, which may end in `/` or in OpenAI's `/v1`.

    Raises UsageError for anything that is not such an address.
    """
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as it is looked up
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL()
    if "@" in url or "?" in url:
        raise UsageError(
            "--url should be an address alone, like http://127.0.0.1:8000: give the key with "
            "--api-key."
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"--url is {url!r}; it should be like http://127.0.0.1:8000.")
    return str(parsed.copy_with(fragment=None)).rstrip("/").removesuffix("/v1")


def _client(url: str, headers: dict[str, str]) -> httpx.Client:
    """A client for the server at `url`, by the environment's proxy unless it is this machine.

    Raises UsageError if the environment's proxy or certificates cannot be used.
    """
    timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
    try:
        return httpx.Client(
            base_url=url,
            headers=headers,
            timeout=timeout,
            verify=httpx.create_ssl_context(),
            trust_env=not _is_here(httpx.URL(url).host),
        )
    except OSError as error:
        raise UsageError(
            f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read "
            f"({error.strerror}): it should name a file or a directory of them."
        ) from None
    except (ImportError, ValueError, httpx.InvalidURL):  # its message may hold a password
        raise UsageError(
            "The proxy that the environment names (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) cannot be "
            "used: it should be like http://HOST:PORT."
        ) from None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sendable(key: str) -> str:
    """`key` as HTTP can send it; raises UsageError if it cannot be sent."""
    if not re.fullmatch(r"[!-~]+", key.strip()):
        raise UsageError(
            "The API key holds a space or a character outside ASCII, which no HTTP header can "
            "carry: give it with --api-key, or in LONGROPE_API_KEY or OPENAI_API_KEY."
        )
    return key.strip()


def _seconds_to_wait(response: httpx.Response) -> float | None:
    """The wait that a busy server asks for with `Retry-After`, as seconds or as a date.

    None if it asks for none, or for more than LONGEST_WAIT.
    """
    if response.status_code not in BUSY:
        return None
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        seconds = float(value)
    else:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = max(0.0, (date.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds())
    return seconds if seconds <= LONGEST_WAIT else None
