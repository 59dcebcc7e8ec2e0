import json
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest import plan
from longrope_loadtest import profile as profiles
from longrope_loadtest.errors import LoadTestError
from longrope_loadtest.plan import Planned
from longrope_loadtest.profile import TokenIds, Words
from longrope_loadtest.prompts import text_of, token_ids_of
from longrope_loadtest.traces import BLOCK_TOKENS

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
    assert [each.intended for each in requests] == [0, 1, 2, 4]
    assert [each.prompt_tokens for each in requests] == [700, 600, 1200, 50]
    assert [each.output_tokens for each in requests] == [5, 7, 6, 8]


def test_speed_and_requests_are_kept_to(tmp_path: Path) -> None:
    requests = planned(tmp_path, LINES, speed=4, requests=3)
    assert [each.intended for each in requests] == [0, 0.25, 0.5]


def test_equal_hash_ids_are_equal_blocks_of_text(tmp_path: Path) -> None:
    first, second, third, fourth = planned(tmp_path, LINES)
    words = {
        each.number: text_of(each, WORDS, 0).split() for each in (first, second, third, fourth)
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
    one, other = (text_of(each, WORDS, 0).split() for each in planned(tmp_path, [line] * 2))
    assert one[:BLOCK_TOKENS] == other[:BLOCK_TOKENS]
    assert len(one) == len(other) == 600
    assert one[BLOCK_TOKENS : BLOCK_TOKENS + 8] != other[BLOCK_TOKENS : BLOCK_TOKENS + 8]


def test_a_line_may_name_its_class(tmp_path: Path) -> None:
    lines = [{**line, "class": "b"} for line in LINES]
    assert {each.class_name for each in planned(tmp_path, lines)} == {"b"}


def test_fields_that_we_do_not_know_are_left_alone(tmp_path: Path) -> None:
    assert len(planned(tmp_path, [{**LINES[0], "type": "text", "turn": 2}])) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input_length": 0}, "trace.jsonl, line 2: input_length: "),
        ({"timestamp": "soon"}, "trace.jsonl, line 2: timestamp: "),
        ({"hash_ids": [-1]}, "trace.jsonl, line 2: hash_ids.0: "),
        ({"class": "c"}, "request 2: no class 'c' has these arrivals, but a, b"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    lines = [LINES[0], {**LINES[1], **change}]
    with pytest.raises(LoadTestError) as refusal:
        planned(tmp_path, lines)
    assert says in str(refusal.value)


def test_a_trace_that_is_not_there_or_empty_or_not_json_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    loaded = profiles.load(path)
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n")
    with pytest.raises(LoadTestError, match=r"trace\.jsonl has no requests"):
        plan.make(loaded, 0, tmp_path)
    trace.write_text("{\n")
    with pytest.raises(LoadTestError, match=r"trace\.jsonl, line 1 is not JSON"):
        plan.make(loaded, 0, tmp_path)
    trace.unlink()
    with pytest.raises(LoadTestError, match=r"trace\.jsonl cannot be read"):
        plan.make(loaded, 0, tmp_path)
