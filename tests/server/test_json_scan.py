"""The scan beside a parser that builds everything, for texts cut anywhere."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from longrope_server.front_end.bodies.json_scan import DEEPEST, JSONScan, UnreadableError


def refusal(*chunks: bytes) -> str:
    """What the scan says of a text in these chunks; '' where it lets it pass."""
    scan = JSONScan()
    try:
        for chunk in chunks:
            scan.feed(chunk)
        scan.finish()
    except UnreadableError as error:
        return str(error)
    return ""


def in_bytes(text: bytes) -> list[bytes]:
    return [text[place : place + 1] for place in range(len(text))]


ENCODING, ESCAPE, DEPTH = "not UTF-8", "stands for no character", "nested more than"
NUMBER, WORD = "no 64-bit float", "NaN or Infinity"
LIMIT = b"[" * DEEPEST + b"]" * DEEPEST


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"stop": "\\ud800"}', ESCAPE),
        (b'["\\uDFFF"]', ESCAPE),
        (b'["\\udc00\\ud800"]', ESCAPE),
        (b'["\\ud83dx\\ude00"]', ESCAPE),
        (b'["\\\\\\ud83d"]', ESCAPE),
        (b'{"\\ud83d": 1}', ESCAPE),
        (b'["\\ud83d\\ude00", "\\\\ud800", "\\ud7ff\\ue000"]', ""),
        (b'"\xed\xa0\x80"', ENCODING),
        (b'["\xff"]', ENCODING),
        (b'["\xc3\xa9\xf0\x9f\x98\x80"]', ""),
        (b'["\xc3', ENCODING),
        ('{"a": 1}'.encode("utf-16"), ENCODING),
        ('{"a": 1}'.encode("utf-16-le"), ENCODING),
        ('{"a": 1}'.encode("utf-32-be"), ENCODING),
        (b"\xef\xbb\xbf{}", ""),
        (LIMIT, ""),
        (b"[" + LIMIT + b"]", DEPTH),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, DEPTH),
        (b"[" * 2000, DEPTH),
        (b"[" + b"[[]]," * 1000 + b"[]]", ""),
        (b'["' + b"[" * 2000 + b'\\"' + b"{" * 2000 + b'"]', ""),
        (b"9" * 400, NUMBER),
        (b'{"top_k": -' + b"1" + b"0" * 309 + b"}", NUMBER),
        (b"1" + b"0" * 308, ""),
        (b"0." + b"0" * 400 + b"1", NUMBER),
        (b"[1e400]", NUMBER),
        (b"[-1.5E+309]", NUMBER),
        (b"[1e308, 1E-400, 2e+05]", ""),
        (b'["' + b"9" * 400 + b'", "1e400", "NaN"]', ""),
        (b"[NaN]", WORD),
        (b'{"a": -Infinity}', WORD),
        (b"[true, false, null]", ""),
        (b"", ""),
        (b"not JSON at all", ""),
    ],
)
def test_what_is_refused_whole_or_cut_into_bytes(text: bytes, said: str) -> None:
    for chunks in ([text], in_bytes(text)):
        sentence = refusal(*chunks)
        assert (said in sentence) if said else not sentence


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**309), 10**308])
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["\\", '"', '\\"', "\\u", "\\ud800", "[", "}", "NaN", "1e999"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
)


def holds(value: Any) -> bool:
    """Whether everything in `value` can be held: texts as UTF-8, numbers as doubles."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return False
            return True
        case bool() | None:
            return True
        case int() | float():
            try:
                return math.isfinite(float(value))
            except OverflowError:
                return False
        case dict():
            return all(map(holds, [*value, *value.values()]))
        case _:
            return all(map(holds, value))


@settings(deadline=None)
@given(JSON, st.booleans(), st.data())
@example("\ud83d\ude00", False, None)
def test_it_refuses_what_cannot_be_held_and_nothing_else(
    value: Any, raw: bool, data: st.DataObject | None
) -> None:
    text = json.dumps(value, ensure_ascii=not raw).encode("utf-8", "surrogatepass")
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6)) if data else []
    places = [0, *sorted(cuts), len(text)]
    chunks = [text[start:end] for start, end in pairwise(places)]
    # Python's parser joins the halves of a pair that json.dumps has written as two escapes.
    kept = json.loads(text.decode("utf-8", "surrogatepass"))
    assert (refusal(*chunks) == "") == holds(kept)
