from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from longrope_loadtest.sse import Events

# Also what splitlines() would take for the end of a line, and characters of several bytes.
LINE = st.text(
    st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])
    | st.sampled_from("\u2028\u0085\x0b\x0c €😀")
)
DATA = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
NOISE = st.sampled_from(["", ": prefill 10/100\n\n", "event: x\n", "id: 7\n", ":\n\n", "\n\n"])
STREAM = st.lists(st.tuples(NOISE, DATA), max_size=6)


def encoded(stream: list[tuple[str, str]], line_end: str) -> bytes:
    text = ""
    for noise, data in stream:
        text += noise + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"
    return text.replace("\n", line_end).encode()


def pieces(whole: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(at)]


@given(STREAM, st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 10**6), max_size=12))
@example([("", "a"), ("", "b")], "\r\n", [8, 9, 10, 11])
def test_a_stream_in_any_pieces_is_the_stream(
    stream: list[tuple[str, str]], line_end: str, cuts: list[int]
) -> None:
    events = Events()
    found = [
        data for piece in pieces(encoded(stream, line_end), cuts) for data in events.feed(piece)
    ]
    assert found == [data for _, data in stream]


def test_a_stream_byte_by_byte_is_the_stream() -> None:
    whole = encoded([(": prefill 1/2\n\n", '{"a": "€"}'), ("", "x\ny"), ("", "[DONE]")], "\r\n")
    events = Events()
    found = [data for byte in whole for data in events.feed(bytes([byte]))]
    assert found == ['{"a": "€"}', "x\ny", "[DONE]"]


def test_the_space_after_the_colon_may_be_left_out_and_only_one_is_taken() -> None:
    assert Events().feed(b"data:a\n\ndata:  b\n\n") == ["a", " b"]


def test_an_event_is_none_before_its_empty_line() -> None:
    events = Events()
    assert events.feed(b"data: a\n") == []
    assert events.feed(b"\n") == ["a"]


def test_bytes_that_are_not_utf_8_do_not_end_the_stream() -> None:
    assert Events().feed(b"data: \xff\n\n") == ["�"]
