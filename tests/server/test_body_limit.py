import asyncio
import base64
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_server.front_end.bodies.body_limit import BODY, BodyLimit, Memory, largest_body
from starlette.types import Receive, Scope, Send

from tests.server.asgi import Connection, answers, body_in, http_scope, listening, read_body, say

LIMIT = 1000


class Reader:
    """Keeps what it reads."""

    def __init__(self) -> None:
        self.read: bytes | None = None
        self.size = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.size = scope[BODY].size
        self.read = await read_body(receive)
        await say(send)


def limited(app: object, memory: Memory | None = None, seconds: float = 5.0) -> BodyLimit:
    return BodyLimit(app, LIMIT, seconds, memory or Memory(10 * LIMIT))  # type: ignore[arg-type]


@given(st.binary(max_size=LIMIT + 5), st.lists(st.integers(0, LIMIT), max_size=5))
def test_a_body_within_the_limit_is_handed_on_as_it_came(body: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[a:b] for a, b in pairwise(places)]
    memory, reader = Memory(10 * LIMIT), Reader()
    connection = Connection(*body_in(chunks))
    asyncio.run(limited(reader, memory)(http_scope(), connection.receive, connection.send))
    assert memory.held == 0
    if len(body) <= LIMIT:
        assert reader.read == body
        assert reader.size == len(body)
    else:
        assert reader.read is None
        assert connection.status == 413


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    connection = Connection({"type": "http.request", "body": b"x" * 10, "more_body": False})
    scope = http_scope(content_length=str(LIMIT + 1))
    await limited(Reader())(scope, connection.receive, connection.send)
    assert connection.status == 413
    assert json.loads(connection.body)["error"]["code"] == "body_too_large"
    assert connection.headers["connection"] == "close"


async def test_a_client_that_asks_before_it_sends_is_told_at_once() -> None:
    connection = Connection()
    scope = http_scope(content_length=str(LIMIT + 1), expect="100-continue")
    async with asyncio.timeout(1):
        await limited(Reader())(scope, connection.receive, connection.send)
    assert connection.status == 413


async def test_a_slow_body_gets_408() -> None:
    connection = Connection({"type": "http.request", "body": b"x", "more_body": True})
    memory = Memory(LIMIT)
    await limited(Reader(), memory, 0.05)(http_scope(), connection.receive, connection.send)
    assert connection.status == 408
    assert memory.held == 0


async def test_bodies_that_fill_the_memory_get_503_and_a_time_to_come_back() -> None:
    memory = Memory(limit=100, held=50)
    connection = Connection(*body_in([b"x" * 51]))
    connection.gone.set()
    await limited(Reader(), memory)(http_scope(), connection.receive, connection.send)
    assert connection.status == 503
    assert connection.headers["retry-after"] == "1"
    assert memory.held == 50


async def test_a_client_that_leaves_in_the_body_is_forgotten() -> None:
    connection = Connection(
        {"type": "http.request", "body": b"x" * 10, "more_body": True},
        {"type": "http.disconnect"},
    )
    memory, reader = Memory(LIMIT), Reader()
    await limited(reader, memory)(http_scope(), connection.receive, connection.send)
    assert reader.read is None
    assert connection.sent == []
    assert memory.held == 0


async def test_a_body_that_nobody_reads_is_forgotten_too() -> None:
    async def ignores(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send)

    memory = Memory(LIMIT)
    connection = Connection(*body_in([b"x" * 10]))
    await limited(ignores, memory)(http_scope(), connection.receive, connection.send)
    assert connection.status == 200
    assert memory.held == 0


async def test_after_the_body_the_application_hears_that_the_client_left() -> None:
    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        assert (await receive())["type"] == "http.disconnect"

    connection = Connection(*body_in([b"x"]))
    connection.gone.set()
    await limited(waits)(http_scope(), connection.receive, connection.send)


async def test_a_get_is_not_read() -> None:
    async def unread(scope: Scope, receive: Receive, send: Send) -> None:
        assert BODY not in scope
        await say(send)

    connection = Connection()
    await limited(unread)(http_scope("GET"), connection.receive, connection.send)
    assert connection.status == 200


def test_the_largest_body_takes_two_million_token_ids_and_the_longest_words() -> None:
    tokens = 2_097_152
    assert largest_body(tokens) > len(json.dumps({"prompt": [1_234_567] * tokens}))
    assert largest_body(tokens) > len(json.dumps({"prompt": " internationally" * tokens})) - tokens


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_over_a_socket_the_limit_is_one_byte_sharp(http: str) -> None:
    memory = Memory(10 * LIMIT)
    async with listening(limited(answers, memory), http) as port:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (50 * LIMIT, 413)):
            chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)
            for framing in (
                b"Content-Length: %d\r\n\r\n%s" % (size, b"x" * size),
                b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
            ):
                answer = await _exchange(port, b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)
                assert answer.startswith(b"HTTP/1.1 %d " % status), (size, framing[:30])
        assert memory.held == 0


HEAD = st.sampled_from(
    [
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Expect: 100-continue\r\nContent-Length: 2000\r\n",
        b"X: \xff\xfe\r\n",
        b": \r\n",
    ]
)
CHUNKS = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.integers(0, 1500).map(lambda size: b"%x\r\n%s\r\n" % (size, b"y" * size)),
        st.sampled_from([b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"5;a=b\r\nhello\r\n"]),
    ),
    max_size=4,
)


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_whatever_comes_over_a_socket_is_no_5xx_and_no_hang(http: str) -> None:
    memory = Memory(10 * LIMIT)
    loop = asyncio.get_running_loop()
    async with listening(limited(answers, memory, 0.05), http) as port:

        @settings(max_examples=30, deadline=None)
        @given(HEAD, CHUNKS)
        def check(head: bytes, chunks: list[bytes]) -> None:
            request = b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + b"".join(chunks)
            answer = asyncio.run_coroutine_threadsafe(_exchange(port, request), loop).result()
            assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]
            assert memory.held == 0

        await asyncio.to_thread(check)


async def _exchange(port: int, request: bytes) -> bytes:
    """What comes back until the server closes, or for a while after it has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(5):
            while more := await reader.read(65536):
                answer += more
    except (TimeoutError, ConnectionError):
        assert answer
    finally:
        writer.close()
    return answer


def test_the_largest_body_takes_media_and_embeddings() -> None:
    assert largest_body(448, has_media=True) > 25 << 20, "a whisper's sound"
    numbers = base64.b64encode(bytes(4 * 4096 * 1000))
    assert largest_body(1000, embedding=4096) > len(numbers)
    assert largest_body(2**21, embedding=4096) < 2 << 30
