import json
import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from longrope_server.front_end.admission.estimate import BYTES_PER_ID, BYTES_PER_TOKEN, tokens_in


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(place for place in places if place < len(body))})
    return [body[a:b] for a, b in pairwise(edges)]


@given(
    st.integers(600, 5000),
    st.integers(0, 2**32),
    st.booleans(),
    st.lists(st.integers(0, 40_000), max_size=3),
)
def test_token_ids_are_counted_however_they_are_written_and_cut(
    count: int, seed: int, compact: bool, places: list[int]
) -> None:
    ids = random.Random(seed).choices(range(10, 1_000_000), k=count)
    separators = (",", ":") if compact else (", ", ": ")
    body = {"model": "m", "prompt": ids, "max_tokens": 5, "temperature": 0}
    written = json.dumps(body, separators=separators).encode()
    assert abs(tokens_in(cut(written, places)) - count) < 10


@given(st.binary(min_size=1, max_size=5000), st.lists(st.integers(0, 5000), max_size=4))
def test_no_body_counts_less_than_if_it_were_the_longest_ids(
    body: bytes, places: list[int]
) -> None:
    tokens = tokens_in(cut(body, places))
    assert len(body) // BYTES_PER_ID + 1 <= tokens <= len(body) + 1


def test_a_text_of_digits_does_not_pass_for_a_few_ids() -> None:
    body = b'{"prompt": "' + b"1 " * 500_000 + b'"}'
    assert tokens_in([body]) > 100_000


def test_a_text_with_a_list_in_its_middle_does_not_pass_for_the_list() -> None:
    text = b"word " * 200_000
    assert tokens_in([text + b"1,22,333," * 500 + text]) > 200_000


def test_the_text_of_a_request_counts_four_bytes_a_token() -> None:
    assert tokens_in([b"a" * 400, b"b" * 400]) == 800 // BYTES_PER_TOKEN + 1
    assert tokens_in([]) == 1
    assert tokens_in([b""]) == 1
