import json
import math
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import plan
from longrope_loadtest.profiles import profile as profiles
from longrope_loadtest.profiles.planned import Planned
from longrope_loadtest.profiles.profile import TokenIds, Words
from longrope_loadtest.profiles.prompts import text_of, token_ids_of
from longrope_loadtest.profiles.trace_units import DEFAULT_BLOCK_TOKENS as BLOCK_TOKENS

# The lengths are the trace's, not the class's.
WORDS = Words.model_validate({"tokens": 1})
TOKEN_IDS = TokenIds.model_validate({"kind": "token_ids", "tokens": 1})
LINES: list[dict[str, Any]] = [
    {"timestamp": 1000, "input_length": 700, "output_length": 5, "hash_ids": [1, 2]},
    {"timestamp": 3000, "input_length": 1200, "output_length": 6, "hash_ids": [1, 2, 3]},
    {"timestamp": 2000, "input_length": 600, "output_length": 7, "hash_ids": [4, 2]},
    {"timestamp": 5000, "input_length": 50, "output_length": 8},
]


def written(folder: Path, lines: list[dict[str, Any]], **arrivals: Any) -> Path:
    (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = {
        "arrivals": {"kind": "trace", "path": "trace.jsonl", **arrivals},
        "classes": {
            name: {"prompt": {"kind": "words", "tokens": 10}, "output_tokens": 3}
            for name in ("a", "b")
        },
    }
    path = folder / "profile.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def planned(folder: Path, lines: list[dict[str, Any]], **arrivals: Any) -> list[Planned]:
    path = written(folder, lines, **arrivals)
    return list(plan.make(profiles.load(path), 0, path.parent))


def test_a_trace_is_replayed_by_time_with_its_lengths(tmp_path: Path) -> None:
    requests = planned(tmp_path, LINES)
    assert [request.intended for request in requests] == [0, 1, 2, 4]
    assert [request.prompt_tokens for request in requests] == [700, 600, 1200, 50]
    assert [request.output_tokens for request in requests] == [5, 7, 6, 8]


def test_speed_and_requests_are_kept_to(tmp_path: Path) -> None:
    requests = planned(tmp_path, LINES, speed=4, requests=3)
    assert [request.intended for request in requests] == [0, 0.25, 0.5]


def test_equal_hash_ids_are_equal_blocks_of_text(tmp_path: Path) -> None:
    first, second, third, fourth = planned(tmp_path, LINES)
    words = {
        request.number: text_of(request, WORDS, 0).split()
        for request in (first, second, third, fourth)
    }
    assert [len(words[number]) for number in range(4)] == [700, 600, 1200, 50]
    one, two, three = words[0], words[1], words[2]
    assert one[:700] == three[:700]
    assert one[:8] != two[:8]
    assert one[BLOCK_TOKENS:600] == two[BLOCK_TOKENS:600]


def test_equal_hash_ids_are_equal_token_ids(tmp_path: Path) -> None:
    first, _, third, _ = planned(tmp_path, LINES)
    assert token_ids_of(first, TOKEN_IDS, 0) == token_ids_of(third, TOKEN_IDS, 0)[:700]


def test_what_the_blocks_do_not_cover_is_each_requests_own(tmp_path: Path) -> None:
    line: dict[str, Any] = {
        "timestamp": 0,
        "input_length": 600,
        "output_length": 1,
        "hash_ids": [1],
    }
    one, other = (text_of(request, WORDS, 0).split() for request in planned(tmp_path, [line] * 2))
    assert one[:BLOCK_TOKENS] == other[:BLOCK_TOKENS]
    assert len(one) == len(other) == 600
    assert one[BLOCK_TOKENS : BLOCK_TOKENS + 8] != other[BLOCK_TOKENS : BLOCK_TOKENS + 8]


# A line as Qwen-Bailian's traces have them, but for the ids: seconds, and blocks of 16 tokens.
BAILIAN: dict[str, Any] = {
    "chat_id": 159,
    "parent_chat_id": 55,
    "timestamp": 61.25,
    "input_length": 521,
    "output_length": 132,
    "type": "text",
    "turn": 2,
    "hash_ids": list(range(33)),
}
OTHER_BAILIAN = {**BAILIAN, "timestamp": 61.5, "hash_ids": [0, 1, *range(100, 131)]}


def test_a_trace_of_bailians_is_read_in_its_units(tmp_path: Path) -> None:
    short = {**BAILIAN, "timestamp": 3600.25, "input_length": 20, "hash_ids": [0, 1]}
    requests = planned(tmp_path, [BAILIAN, OTHER_BAILIAN, short])
    assert [request.intended for request in requests] == [0, 0.25, 3539]
    one, other, third = (text_of(request, WORDS, 0).split() for request in requests)
    assert (len(one), len(other), len(third)) == (521, 521, 20)
    assert one[:32] == other[:32]
    assert one[32:40] != other[32:40]
    assert third == one[:20]
    first, second, _ = (token_ids_of(request, TOKEN_IDS, 0) for request in requests)
    assert first[:32] == second[:32]
    assert first[32:40] != second[32:40]


def line(timestamp: float, tokens: int = 50, blocks: int = 0) -> dict[str, Any]:
    ids = list(range(blocks))
    return {
        "timestamp": timestamp, "input_length": tokens, "output_length": 1, "hash_ids": ids
    }  # fmt: skip


@pytest.mark.parametrize(
    ("timestamps", "arrivals", "intended"),
    [
        ([0, 27_000, 30_000], {}, [0, 27, 30]),
        ([10, 10, 10], {}, [0, 0, 0]),
        ([7.5], {}, [0]),
        ([1_700_000_000, 1_700_000_001.5], {}, [0, 1.5]),
        ([1_700_000_000_000, 1_700_000_000_001], {}, [0, 0.001]),
        ([1_700_000_000_000_000, 1_700_000_000_250_000], {}, [0, 0.25]),
        ([1_700_000_000_000_000_000, 1_700_000_000_250_000_000], {}, [0, 0.25]),
        ([0, 1, 2.5], {"unit": "s"}, [0, 1, 2.5]),
        ([0, 1, 2.5], {"unit": "ms"}, [0, 0.001, 0.0025]),
        ([0, 500_000], {"unit": "us"}, [0, 0.5]),
        ([0, 500_000], {"unit": "ns", "speed": 2}, [0, 0.00025]),
        ([1_700_000_000, 1_700_000_001], {"unit": "ms"}, [0, 0.001]),
    ],
)
def test_the_unit_of_timestamps_is_said_or_plain(
    tmp_path: Path, timestamps: list[float], arrivals: dict[str, Any], intended: list[float]
) -> None:
    requests = planned(tmp_path, [line(timestamp) for timestamp in timestamps], **arrivals)
    assert [request.intended for request in requests] == pytest.approx(intended)


@pytest.mark.parametrize(
    ("timestamps", "number", "rates"),
    [
        ([0, 1, 2.5], 3, "800 a second in milliseconds and 0.8 in seconds"),
        ([61.114, 61.5, 60], 2, "1,333 a second in milliseconds and 1.33 in seconds"),
        ([0, 10, 20, 30], 4, "100 a second in milliseconds and 0.1 in seconds"),
        ([5, 45, 118, 130, 132], 5, "31 a second in milliseconds and 0.0315 in seconds"),
    ],
)
def test_a_unit_that_is_not_plain_is_asked_for(
    tmp_path: Path, timestamps: list[float], number: int, rates: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        planned(tmp_path, [line(timestamp) for timestamp in timestamps])
    sentence = str(refusal.value)
    assert f"trace.jsonl, line {number}: timestamp: " in sentence
    assert rates in sentence
    assert "unit: ms or unit: s" in sentence


@pytest.mark.parametrize(
    ("lengths", "arrivals", "block_tokens"),
    [
        ([(700, 2), (512, 1), (50, 1)], {}, 512),  # every block that begins
        ([(700, 1), (512, 1), (50, 0)], {}, 512),  # whole blocks only
        ([(521, 33), (20, 2)], {}, 16),
        ([(521, 32), (40, 2)], {}, 16),
        ([(1000, 16), (3, 1)], {}, 64),
        ([(5000, 3), (20, 1)], {}, 2048),
        ([(100, 10), (95, 10)], {"block_tokens": 10}, 10),
        ([(100, 1)], {"block_tokens": 128}, 128),
        ([(700, 0), (20, 0)], {}, 512),
    ],
)
def test_the_tokens_of_a_block_are_said_or_plain(
    tmp_path: Path,
    lengths: list[tuple[int, int]],
    arrivals: dict[str, Any],
    block_tokens: int,
) -> None:
    lines = [line(1000 * at, *length) for at, length in enumerate(lengths)]
    requests = planned(tmp_path, lines, **arrivals)
    assert {request.block_tokens for request in requests} == {block_tokens}
    for request, (tokens, _) in zip(requests, lengths, strict=True):
        assert len(text_of(request, WORDS, 0).split()) == tokens


@pytest.mark.parametrize(
    ("lengths", "arrivals", "says"),
    [
        ([(700, 2), (700, 5)], {}, "line 2: hash_ids: has 5 for the 700 tokens of input_length"),
        ([(700, 2), (1200, 2), (5, 1)], {}, "line 2: hash_ids: has 2 for the 1200 tokens"),
        ([(1100, 1), (5000, 1)], {}, "line 1: hash_ids: has 1 for the 1100 tokens"),
        ([(521, 33), (20, 3)], {}, "line 1: hash_ids: has 33 for the 521 tokens"),
        ([(20, 2)], {"block_tokens": 512}, "which are 1 blocks of 512"),
        ([(700, 2)], {"block_tokens": 16}, "which are 44 blocks of 16"),
        ([(32, 2), (33, 5)], {"block_tokens": 16}, "line 2: hash_ids: has 5 for the 33 tokens"),
    ],
)
def test_hash_ids_that_do_not_fit_their_prompt_are_named(
    tmp_path: Path, lengths: list[tuple[int, int]], arrivals: dict[str, Any], says: str
) -> None:
    lines = [line(1000 * at, *length) for at, length in enumerate(lengths)]
    with pytest.raises(UsageError) as refusal:
        planned(tmp_path, lines, **arrivals)
    assert says in str(refusal.value)
    assert ("block_tokens in the profile" in str(refusal.value)) == (not arrivals)


def test_whole_numbers_may_have_a_decimal_point(tmp_path: Path) -> None:
    """As pandas writes them where a column has gaps."""
    content = {"timestamp": 0.0, "input_length": 7e2, "output_length": 5.0, "hash_ids": [1.0, 2.0]}
    (request,) = planned(tmp_path, [content])
    assert (request.prompt_tokens, request.output_tokens, request.blocks) == (700, 5, (1, 2))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_end_are_taken_off(tmp_path: Path, line_end: str) -> None:
    path = written(tmp_path, LINES)
    text = (tmp_path / "trace.jsonl").read_text().replace("\n", line_end)
    (tmp_path / "trace.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(plan.make(profiles.load(path), 0, tmp_path)) == 4


def test_a_letter_that_parts_lines_elsewhere_is_none_in_json(tmp_path: Path) -> None:
    path = written(tmp_path, [])
    (tmp_path / "trace.jsonl").write_text(
        '{"timestamp": 0, "input_length": 7, "output_length": 5, "type": "\u2028\x85"}\n'
    )
    assert len(plan.make(profiles.load(path), 0, tmp_path)) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_another_encoding_is_refused_by_its_mark(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, LINES)
    trace = tmp_path / "trace.jsonl"
    trace.write_bytes(("\ufeff" * (encoding[-2:] == "be") + trace.read_text()).encode(encoding))
    with pytest.raises(UsageError, match=rf"\(BOM\) it is {encoding[:6].upper()}"):
        plan.make(profiles.load(path), 0, tmp_path)


def test_a_line_may_name_its_class(tmp_path: Path) -> None:
    lines = [{**line, "class": "b"} for line in LINES]
    assert {request.class_name for request in planned(tmp_path, lines)} == {"b"}


def test_fields_that_we_do_not_know_are_left_alone(tmp_path: Path) -> None:
    assert len(planned(tmp_path, [{**LINES[0], "type": "text", "turn": 2}])) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input_length": 0}, "trace.jsonl, line 2: input_length: "),
        ({"timestamp": "soon"}, "trace.jsonl, line 2: timestamp: "),
        ({"timestamp": "1_5"}, "trace.jsonl, line 2: timestamp: "),
        ({"timestamp": True}, "trace.jsonl, line 2: timestamp: "),
        ({"timestamp": math.nan}, "trace.jsonl, line 2: timestamp: "),
        ({"timestamp": math.inf}, "trace.jsonl, line 2: timestamp: "),
        ({"input_length": " 700"}, "trace.jsonl, line 2: input_length: "),
        ({"input_length": "\uff17\uff10\uff10"}, "trace.jsonl, line 2: input_length: "),
        ({"input_length": 700.5}, "trace.jsonl, line 2: input_length: "),
        ({"input_length": 2**31}, "trace.jsonl, line 2: input_length: "),
        ({"output_length": "+5"}, "trace.jsonl, line 2: output_length: "),
        ({"hash_ids": ["1", 2, 3]}, "trace.jsonl, line 2: hash_ids.0: "),
        ({"hash_ids": [-1]}, "trace.jsonl, line 2: hash_ids.0: "),
        ({"class": "c"}, "request 2: no class 'c' has these arrivals, but a, b"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    lines = [LINES[0], {**LINES[1], **change}]
    with pytest.raises(UsageError) as refusal:
        planned(tmp_path, lines)
    assert says in str(refusal.value)


def test_a_trace_that_is_not_there_or_empty_or_not_json_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    loaded = profiles.load(path)
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n")
    with pytest.raises(UsageError, match=r"trace\.jsonl has no requests"):
        plan.make(loaded, 0, tmp_path)
    trace.write_text("{\n")
    with pytest.raises(UsageError, match=r"trace\.jsonl, line 1 is not JSON"):
        plan.make(loaded, 0, tmp_path)
    for content in ("[" * 100_000, "[1]", '{"timestamp": ' + "1" * 5000 + "}"):
        trace.write_text(content)
        with pytest.raises(UsageError, match=r"trace\.jsonl, line 1"):
            plan.make(loaded, 0, tmp_path)
    trace.unlink()
    with pytest.raises(UsageError, match=r"trace\.jsonl cannot be read"):
        plan.make(loaded, 0, tmp_path)
