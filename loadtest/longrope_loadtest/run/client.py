"""Send one request and record when each thing happened.

This uses aiohttp, because one process must send a thousand requests per second without lagging
behind. Everything else that we ask a server goes through httpx.
"""

import asyncio
import contextlib
import errno
import re
import resource
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp

from longrope_loadtest.run.answers import Answer, BrokenAnswerError, error_message, writable
from longrope_loadtest.run.record import CLIENT_LIMIT, NO_CONNECTION, Record

PIECE = 64 * 1024  # bytes that are handed to the socket at once
CONNECT_SECONDS = 60
REST_SECONDS = 1  # for the end of a stream after [DONE]
# vLLM closes an idle connection after 5 s, and a request sent on it at that moment is lost.
IDLE_SECONDS = 4
REDIRECTS = (301, 302, 303, 307, 308)
OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL)  # open files, and local ports


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send one request."""

    path: str
    stream: bool
    timeout: float  # seconds for the whole request, with its retries
    stall: float  # seconds without a byte
    cancel_after: float | None  # seconds after which we cancel it
    retries: int


class Client:
    """An HTTP client of the server at `url`; `clock` returns seconds from the start of the run."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, clock: Callable[[], float]
    ) -> None:
        self._session = session
        self._url = url
        self.clock = clock

    async def send(self, body: memoryview | bytes, sending: Sending, record: Record) -> Answer:
        """Send a request and fill in `record`, even if this task is cancelled."""
        clock = self.clock
        answer = Answer(record)
        record.dispatched = clock()
        try:
            async with asyncio.timeout(sending.cancel_after) as leaving:
                async with asyncio.timeout(sending.timeout):
                    await self._with_retries(body, sending, record, answer)
            record.outcome = "complete"
        except asyncio.CancelledError:
            record.outcome = "interrupted"
            raise
        except TimeoutError as error:
            if leaving.expired():
                record.outcome = "cancelled"
            else:
                _fail(record, _timeout_kind(error), "")
        except BrokenAnswerError as error:
            _fail(record, error.kind, str(error))
        except aiohttp.ClientConnectorError as error:
            is_ours = error.os_error.errno in OWN_LIMITS
            _fail(record, CLIENT_LIMIT if is_ours else NO_CONNECTION, str(error))
        except (aiohttp.ClientError, OSError) as error:
            _fail(record, "broken connection", " ".join(str(error).split()) or type(error).__name__)
        finally:
            record.ended = clock()
        return answer

    async def _with_retries(
        self, body: memoryview | bytes, sending: Sending, record: Record, reading: Answer
    ) -> None:
        while True:
            again_after = await self._once(body, sending, record, reading)
            if again_after is None:
                return
            record.retries += 1
            await asyncio.sleep(again_after)

    async def _once(
        self, body: memoryview | bytes, sending: Sending, record: Record, reading: Answer
    ) -> float | None:
        """Make one attempt; returns the seconds after which to try again, or None."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_read=sending.stall, sock_connect=CONNECT_SECONDS
        )
        async with self._session.post(
            self._url + sending.path,
            data=self._pieces(body, record),
            headers={"Content-Length": str(len(body)), "Content-Type": "application/json"},
            timeout=timeout,
            allow_redirects=False,  # some of which would make the POST a GET
        ) as answer:
            record.first_byte = self.clock()
            record.status = answer.status
            if (factor_set := answer.headers.get("x-longrope-factor-set")) is not None:
                record.factor_set = writable(factor_set)
            if answer.status != 200:
                message = error_message(await answer.read())
                if answer.status in REDIRECTS:
                    message = writable(f"to {answer.headers.get('Location')}")
                if answer.status in (429, 503) and record.retries < sending.retries:
                    return _retry_after(answer.headers.get("Retry-After"))
                raise BrokenAnswerError(f"http {answer.status}", message)
            if sending.stream:
                async for piece in answer.content.iter_any():
                    reading.feed(piece, self.clock())
                    if reading.is_done:
                        await _rest(answer.content)
                        break
            else:
                content = await answer.read()
                reading.whole(content, self.clock())
            reading.end()
        return None

    async def _pieces(self, body: memoryview | bytes, record: Record) -> AsyncIterator[bytes]:
        for begin in range(0, len(body), PIECE):
            yield bytes(body[begin : begin + PIECE])
        record.sent = self.clock()


@contextlib.asynccontextmanager
async def connected(url: str, key: str | None, start: float) -> AsyncIterator[Client]:
    """A client of the server at `url`; times count from `start` (`time.perf_counter`).

    Connections are kept and reused; only the system limits their number.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),  # else a balancer takes all requests for one user's
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        auto_decompress=True,
        read_bufsize=1 << 20,
    ) as session:
        yield Client(session, url, lambda: time.perf_counter() - start)


async def _rest(content: aiohttp.StreamReader) -> None:
    """Read what follows [DONE], usually nothing, so that the connection can be used again.

    The answer is complete even if the server breaks the connection or leaves the stream open.
    """
    with contextlib.suppress(aiohttp.ClientError, OSError):  # with TimeoutError
        async with asyncio.timeout(REST_SECONDS):
            async for _ in content.iter_any():
                pass


def _fail(record: Record, kind: str, message: str) -> None:
    record.outcome = "failed"
    record.error = kind
    record.message = message or None


def _timeout_kind(error: TimeoutError) -> str:
    if isinstance(error, aiohttp.SocketTimeoutError):
        return "stalled"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NO_CONNECTION
    return "timeout"


def _retry_after(header: str | None) -> float:
    """The seconds that the header asks to wait; 1 if there is no header or it has a date."""
    return float(header) if header and re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", header) else 1.0
