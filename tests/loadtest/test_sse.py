from collections.abc import Sequence
from itertools import cycle, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from longrope_loadtest.run.sse import Events

# Also what splitlines() would take for the end of a line, and characters of several bytes.
LINE = st.text(
    st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])
    | st.sampled_from("\u2028\u0085\x0b\x0c €😀")
)
DATA = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
NOISE = st.sampled_from(
    ["", ": prefill 10/100\n\n", "event: x\n", "id: 7\nretry: 3\n", ":\n\n", "\n\n"]
)
LINE_ENDS = [["\n"], ["\r\n"], ["\r"], ["\n", "\r"], ["\r\n", "\r"], ["\r\n", "\n", "\r"]]
STREAM = st.lists(st.tuples(NOISE, DATA), max_size=6)


def encoded(stream: list[tuple[str, str]], line_ends: Sequence[str]) -> bytes:
    """The stream with these line ends by turns, and a byte order mark."""
    text = "\ufeff"
    for noise, data in stream:
        text += noise + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"
    whole, before = "", ""
    for line, end in zip(text.split("\n")[:-1], cycle(line_ends), strict=False):
        # An LF after a CR would be the rest of the line's end, not an empty line.
        end = "\r" if before == "\r" and end == "\n" and not line else end
        whole, before = whole + line + end, end
    return whole.encode()


def pieces(whole: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(at)]


def read(whole: bytes, cuts: list[int]) -> list[str]:
    events = Events()
    return [data for piece in pieces(whole, cuts) for data in events.feed(piece)]


@given(STREAM, st.sampled_from(LINE_ENDS), st.lists(st.integers(0, 10**6), max_size=12))
@example([("", "a"), ("", "b")], ["\r\n"], [8, 9, 10, 11])
@example([("", "a"), ("", "b")], ["\r"], [1, 2, 11, 12, 13])
def test_a_stream_in_any_pieces_is_the_stream(
    stream: list[tuple[str, str]], line_ends: list[str], cuts: list[int]
) -> None:
    assert read(encoded(stream, line_ends), cuts) == [data for _, data in stream]


@pytest.mark.parametrize("line_ends", LINE_ENDS)
def test_a_stream_byte_by_byte_is_the_stream(line_ends: list[str]) -> None:
    stream = [(": prefill 1/2\n\n", '{"a": "€"}'), ("id\nretry: 1\n", "x\ny"), ("", "[DONE]")]
    whole = encoded(stream, line_ends)
    assert read(whole, list(range(len(whole)))) == ['{"a": "€"}', "x\ny", "[DONE]"]


@pytest.mark.parametrize(
    ("whole", "found"),
    [
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data: a\r\ndata: b\n\r\n", ["a\nb"]),
        (b"data: a\n\rdata: b\r\n\n", ["a", "b"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", ["b"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
        (b"data\n\n", [""]),
        (b"data\ndata\n\n", ["\n"]),
        (b"data:\n\n", [""]),
        (b"event: ping\nid: 1\nretry: 10\n\n", []),
        (b"event: error\ndata: a\nid: 1\n\n", ["a"]),
        (b":data: a\n\n", []),
        (b" data: a\n\n", []),
        (b"Data: a\ndatas: b\ndata : c\n\n", []),
        (b"data: a: b\n\n", ["a: b"]),
        (b"data: a\n\ndata: b\n", ["a"]),
        (b"data: a\n\ndata: b\n\r", ["a", "b"]),
    ],
)
def test_the_grammar_is_the_standards(whole: bytes, found: list[str]) -> None:
    assert read(whole, []) == found
    assert read(whole, list(range(len(whole)))) == found


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_an_event_comes_with_its_last_byte(line_end: str) -> None:
    """A CR ends its line at once: what comes next may be seconds away."""
    events = Events()
    assert events.feed(f"data: a{line_end}".encode()) == []
    assert events.feed(line_end[:1].encode()) == ["a"]
    assert events.feed(f"{line_end[1:]}data: b{line_end}{line_end}".encode()) == ["b"]


def test_a_line_of_many_pieces_takes_time_linear_in_them() -> None:
    events = Events()
    pieces = [b"data: ", *[b"x" * 100] * 20_000, b"\n\n"]
    assert [data for piece in pieces for data in events.feed(piece)] == ["x" * 2_000_000]


def test_the_space_after_the_colon_may_be_left_out_and_only_one_is_taken() -> None:
    assert Events().feed(b"data:a\n\ndata:  b\n\n") == ["a", " b"]


def test_an_event_is_none_before_its_empty_line() -> None:
    events = Events()
    assert events.feed(b"data: a\n") == []
    assert events.feed(b"\n") == ["a"]


def test_bytes_that_are_not_utf_8_do_not_end_the_stream() -> None:
    assert Events().feed(b"data: \xff\n\n") == ["�"]
