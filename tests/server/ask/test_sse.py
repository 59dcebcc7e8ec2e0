"""Events and comments come out of a stream however its bytes are split."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.ask.sse import Comment, Event, parse

STREAM = (
    "\ufeff: prefill 512/3,000\n\n"
    ': keep-alive\r\n\r\ndata: {"é": "日本 🗼"}\r\n\r\n'
    "event: message\rid: 7\rdata: first\rdata:second\rdata\r\r"
    "data:  two spaces: and a colon\n\n:\n\nretry: 3\n\ndata: never ended\n"
).encode()
ITEMS = [
    Comment("prefill 512/3,000"),
    Comment("keep-alive"),
    Event('{"é": "日本 🗼"}'),
    Event("first\nsecond\n"),
    Event(" two spaces: and a colon"),
    Comment(""),
]


def split(content: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(at), len(content)]
    return [content[start:end] for start, end in pairwise(places)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_split_of_the_bytes_gives_the_same_items(at: list[int]) -> None:
    assert list(parse(split(STREAM, at))) == ITEMS


def test_single_bytes_give_the_same_items() -> None:
    assert list(parse(split(STREAM, list(range(len(STREAM)))))) == ITEMS


LINE = st.text(st.sampled_from("a: é🗼\ufeff\u2028\x0b"), max_size=6)


@given(st.data(), st.lists(LINE, max_size=8), st.sampled_from(["\n", "\r", "\r\n"]))
def test_every_stream_gives_the_same_items_whole_and_split(
    data: st.DataObject, lines: list[str], end: str
) -> None:
    content = "".join(f"{line}{end}" for line in [*lines, "data: x", ""]).encode()
    at = data.draw(st.lists(st.integers(0, len(content)), max_size=20))
    whole = list(parse([content]))
    assert list(parse(split(content, at))) == whole
    assert isinstance(whole[-1], Event)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_an_item_comes_as_soon_as_its_last_byte(end: str) -> None:
    taken: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (f": one{end}", f"data: two{end}", end, "data: three"):
            taken.append(chunk.encode())
            yield chunk.encode()

    items = parse(chunks())
    assert next(items) == Comment("one")
    assert len(taken) == 1
    assert next(items) == Event("two")
    assert len(taken) == 3
    assert list(items) == []


def test_bytes_that_are_no_utf8_do_not_end_the_stream() -> None:
    assert list(parse([b"data: a\xffb\n\n"])) == [Event("a\N{REPLACEMENT CHARACTER}b")]


def test_a_line_of_many_chunks_takes_time_linear_in_them() -> None:
    chunks = [b"data: ", *[b"x" * 100] * 20_000, b"\n\n"]
    assert list(parse(chunks)) == [Event("x" * 2_000_000)]
