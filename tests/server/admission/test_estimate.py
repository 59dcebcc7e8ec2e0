import base64
import json
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longrope_server.front_end.admission.estimate import (
    BYTES_PER_ID,
    BYTES_PER_TOKEN,
    TOKENS_OF_MEDIUM,
    tokens_in,
)
from longrope_server.front_end.admission.media import BLOCK


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


def encoded(size: int) -> str:
    return base64.b64encode(random.Random(size).randbytes(size)).decode()


def asking(*parts: dict[str, Any]) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": list(parts)}]}).encode()


SIZE = 300_000
EDGES = 2 * BLOCK // BYTES_PER_TOKEN
PHOTO = f"data:image/jpeg;base64,{encoded(SIZE)}"
MEDIA = {
    "chat": {"type": "image_url", "image_url": {"url": PHOTO}},
    "responses": {"type": "input_image", "image_url": PHOTO},
    "messages": {"type": "image", "source": {"type": "base64", "data": encoded(SIZE)}},
    "sound": {"type": "input_audio", "input_audio": {"data": encoded(SIZE), "format": "wav"}},
    "embeddings": {"type": "image_embeds", "image_embeds": encoded(SIZE)},
    "prompt embeddings": {"prompt_embeds": [encoded(SIZE)]},
}


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("count", [1, 3])
def test_a_medium_counts_no_more_than_a_fixed_amount(name: str, count: int) -> None:
    body = asking({"type": "text", "text": "word " * 800}, *[MEDIA[name]] * count)
    chance = random.Random(count)
    for separators in ((", ", ": "), (",", ":")):
        body = json.dumps(json.loads(body), separators=separators).encode()
        for places in ([], range(0, len(body), 65536), chance.sample(range(len(body)), 50)):
            tokens = tokens_in(cut(body, list(places)))
            assert 0 <= tokens - 1000 - count * TOKENS_OF_MEDIUM < 200 + count * EDGES


def test_slashes_may_be_escaped() -> None:
    body = asking(MEDIA["chat"]).replace(b"/", rb"\/")
    assert tokens_in([body]) < TOKENS_OF_MEDIUM + EDGES + 100


@pytest.mark.parametrize("text", ["What does ;base64, mean? " + "word " * 10_000, "字" * 10_000])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_text_is_a_text(text: str, ascii_only: bool) -> None:
    body = json.dumps({"data": text}, ensure_ascii=ascii_only).encode()
    for places in ([], range(0, len(body), 4096)):
        assert tokens_in(cut(body, list(places))) == len(body) // BYTES_PER_TOKEN + 1


def test_a_short_medium_counts_its_bytes() -> None:
    body = asking({"type": "input_audio", "input_audio": {"data": "abcd" * 10}})
    assert tokens_in([body]) == len(body) // BYTES_PER_TOKEN + 1


def test_a_form_with_a_file_counts_as_a_medium() -> None:
    form = "multipart/form-data; boundary=x"
    assert tokens_in([b"\0" * 1_000_000], form) == TOKENS_OF_MEDIUM + 1
    assert tokens_in([b"x" * 40], form) == 11
