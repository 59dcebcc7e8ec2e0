"""What a server sends may be anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.ask.answer import Answer
from longrope_server.ask.untrusted import at, count_at, printable, quoted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "usage", "finish_reason"]), inner
        )
    ),
)


@given(JSON)
def test_any_json_document_is_a_chunk_that_may_say_nothing(chunk: object) -> None:
    answer = Answer()
    assert isinstance(answer.note(chunk), str)
    assert isinstance(answer.document()["answer"], str)


def test_a_path_that_leads_nowhere_gives_none() -> None:
    assert at({"a": [{"b": 1}]}, "a", 0, "b") == 1
    for path in (("a", 1), ("a", "b"), ("c",), (0,), ("a", 0, "b", "c")):
        assert at({"a": [{"b": 1}]}, *path) is None


@pytest.mark.parametrize("value", [True, "7", 7.0, None, [7]])
def test_only_whole_numbers_count(value: object) -> None:
    assert count_at({"n": value}, "n") is None
    assert count_at({"n": 7}, "n") == 7


def test_a_message_is_quoted_on_one_line_without_its_full_stop() -> None:
    assert quoted("Too\n  long.", "secret") == "Too long"
    assert quoted("x" * 1000) == "x" * 300
    assert quoted(["no text"]) == ""
    assert "\x1b" not in quoted("\x1b[2Jgone")


@pytest.mark.parametrize(
    "message",
    [
        "the key sk-123 is wrong",
        "invalid input 'It was a dark and\nstormy night; the rain'",
        r"invalid input 'It was a dark and\nstormy night; the rain'",
        "Why?",
    ],
)
def test_a_message_that_repeats_what_is_private_is_not_quoted(message: str) -> None:
    novel = "It was a dark and stormy night;\nthe rain fell in torrents."
    assert quoted(message, novel, "Why?", "sk-123") == ""


def test_a_message_may_use_the_documents_words() -> None:
    assert quoted("The model does not exist.", "It does not exist, they said.", "", "sk") != ""


def test_what_steers_a_terminal_is_replaced() -> None:
    assert printable("a\tb\nc é 🗼") == "a\tb\nc é 🗼"
    assert printable("\x1b]0;title\x07\x9b2J\r\x7f") == "�]0;title��2J��"
