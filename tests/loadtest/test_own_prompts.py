"""The user's own prompts and recorded bodies."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from longrope_loadtest.errors import UsageError
from longrope_loadtest.profiles import plan
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.run import bodies
from longrope_loadtest.run.driving import Run, Target

from tests.loadtest.commands import loadtest, requests_in
from tests.loadtest.mocking import MockServer

HELLO = {"messages": [{"role": "user", "content": "Hello\u2028there"}]}
SYSTEM = {"messages": [{"role": "system", "content": "Hm."}, *HELLO["messages"]]}
Json = dict[str, Any]


def written(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def profile(kind: str, requests: int = 3, **fields: Any) -> Profile:
    request_class = {"prompt": {"kind": kind, "path": "prompts.jsonl"}} | fields
    arrivals = {"kind": "closed", "users": 1, "requests": requests}
    return Profile.model_validate({"arrivals": arrivals, "classes": {"a": request_class}})


def made(folder: Path, what: Profile) -> list[bytes]:
    planned = plan.make(what, 0, folder)
    with bodies.made(planned, what, "model", 0, lambda done: None) as all_bodies:
        return [bytes(all_bodies.of(request.number)) for request in planned]


def test_lines_are_sent_in_their_order_and_over_again(tmp_path: Path) -> None:
    written(tmp_path, HELLO, "", SYSTEM)
    sent = [json.loads(body) for body in made(tmp_path, profile("file", output_tokens=7))]
    assert [body["messages"] for body in sent] == [
        line["messages"] for line in (HELLO, SYSTEM, HELLO)
    ]
    common = {"model": "model", "max_tokens": 7, "stream": True}
    assert all(common.items() <= body.items() for body in sent)


def test_fields_of_a_line_replace_the_classs(tmp_path: Path) -> None:
    written(
        tmp_path,
        {**HELLO, "max_tokens": 3},
        {**HELLO, "temperature": 1},
        {**HELLO, "max_completion_tokens": 5},
    )
    what = profile("file", output_tokens=7, extra={"temperature": 0})
    sent = [json.loads(body) for body in made(tmp_path, what)]
    assert [body.get("max_tokens") for body in sent] == [3, 7, None]
    assert [body["temperature"] for body in sent] == [0, 1, 0]
    planned = plan.make(what, 0, tmp_path)
    assert [request.output_tokens for request in planned] == [3, 7, 5]


def test_completions_have_prompts(tmp_path: Path) -> None:
    written(tmp_path, {"prompt": "Once"}, {"prompt": [1, 2, 3]})
    sent = made(tmp_path, profile("file", requests=2, api="completions", output_tokens=7))
    assert [json.loads(body)["prompt"] for body in sent] == ["Once", [1, 2, 3]]


def test_a_line_can_be_a_conversation(server: MockServer, tmp_path: Path) -> None:
    system, *_ = SYSTEM["messages"]
    users = [{"role": "user", "content": text} for text in ("One?", "Two?", "Three?")]
    theirs = {"role": "assistant", "content": "Not sent."}
    written(tmp_path, {"messages": [system, users[0], theirs, users[1], theirs, users[2], theirs]})
    prompt = {"kind": "file", "path": "prompts.jsonl", "by_turn": True}
    what = profile("file", requests=1, prompt=prompt, output_tokens=2)
    planned = plan.make(what, 0, tmp_path)
    with bodies.made(planned, what, "mock", 0, lambda done: None) as made_bodies:
        run = Run(planned, what, made_bodies, Target(server.url, "mock", None))
        run.drive()
        last = json.loads(bytes(made_bodies.of(2)))
    assert [(record.turn, record.turns) for record in run.records] == [(1, 3), (2, 3), (3, 3)]
    ours = {"role": "assistant", "content": " word word"}
    history = [system, users[0], ours, users[1], ours, users[2]]
    body = json.dumps(last | {"messages": history}, separators=(",", ":")).encode()
    assert server.truths()[-1].body == zlib.crc32(body)


def test_a_conversation_without_a_user_is_named(tmp_path: Path) -> None:
    written(tmp_path, {"messages": SYSTEM["messages"][:1]})
    prompt = {"kind": "file", "path": "prompts.jsonl", "by_turn": True}
    with pytest.raises(UsageError, match="line 1: messages must have one of the user's"):
        plan.make(profile("file", prompt=prompt, output_tokens=1), 0, tmp_path)


def test_recorded_bodies_are_sent_byte_for_byte(server: MockServer, tmp_path: Path) -> None:
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    lines = [
        '{ "model":"mock",  "messages": [{"role":"user","content":"\\u00e9é"}], "max_tokens": 4}',
        json.dumps({"model": "mock", **HELLO, "max_tokens": 5, **streamed}, ensure_ascii=False),
    ]
    written(tmp_path, *lines)
    content = profile("replay", requests=2).model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "profile.yaml"
    path.write_text(json.dumps(content))
    outcome = loadtest("run", path, "--url", server.url, "-o", tmp_path / "out")
    assert outcome.status == 0
    assert [truth.body for truth in server.truths()] == [zlib.crc32(t.encode()) for t in lines]
    whole, stream = requests_in(tmp_path / "out")
    assert (whole["first_token"], whole["output_tokens"]) == (None, 4)
    assert (stream["first_token"] is None, stream["output_tokens"]) == (False, 5)


def test_recorded_bodies_are_streams_where_an_objective_needs_them(tmp_path: Path) -> None:
    written(tmp_path, {**HELLO, "stream": True}, HELLO)
    content = profile("replay", requests=2).model_dump(mode="json", exclude_unset=True)
    content["classes"]["a"]["slo"] = {"itl": 0.1}
    with pytest.raises(UsageError, match=r"line 2: slo\.itl needs a body with stream: true"):
        plan.make(Profile.model_validate(content), 0, tmp_path)
    content["classes"]["a"]["slo"] = {"e2e": 0.1}
    assert len(plan.make(Profile.model_validate(content), 0, tmp_path)) == 2


def test_a_trace_says_when_recorded_bodies_are_sent(tmp_path: Path) -> None:
    written(tmp_path, HELLO, SYSTEM)
    lines = [{"timestamp": at, "input_length": 9, "output_length": 9} for at in (0, 1500)]
    (tmp_path / "trace").write_text("\n".join(json.dumps(line) for line in lines))
    arrivals = {"kind": "trace", "path": "trace", "unit": "ms"}
    what = profile("replay").model_copy(update={"arrivals": None})
    content = what.model_dump(mode="json", exclude_unset=True) | {"arrivals": arrivals}
    planned = plan.make(Profile.model_validate(content), 0, tmp_path)
    assert [request.intended for request in planned] == [0, 1.5]
    assert [r.line.fields for r in planned if r.line] == [HELLO, SYSTEM]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ({"prompt": "Hello"}, "line 2: must be an object with messages, for example"),
        ({"messages": []}, "line 2: must be an object with messages"),
        ({"messages": ["Hello"]}, "line 2: messages must be a list of objects with a role"),
        ([], "line 2: must be an object"),
        (
            {**HELLO, "stream": True},
            "line 2: stream is set by the class; .* use prompt kind replay",
        ),
        ({**HELLO, "model": "a"}, "line 2: model is set by the class"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: object, says: str) -> None:
    written(tmp_path, HELLO, line)
    with pytest.raises(UsageError, match=says):
        plan.make(profile("file", output_tokens=1), 0, tmp_path)


def test_a_file_without_prompts_and_one_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"prompts.jsonl cannot be read"):
        plan.make(profile("file", output_tokens=1), 0, tmp_path)
    written(tmp_path, "")
    with pytest.raises(UsageError, match=r"prompts.jsonl has no prompts"):
        plan.make(profile("file", output_tokens=1), 0, tmp_path)


@pytest.mark.parametrize("field", [{"output_tokens": 7}, {"extra": {"temperature": 0}}])
def test_recorded_bodies_are_not_changed(field: Json) -> None:
    with pytest.raises(ValueError, match="leave out output_tokens and extra"):
        profile("replay", **field)


def test_a_data_set_becomes_such_a_file(tmp_path: Path) -> None:
    from datasets import Dataset  # takes seconds; what docs/loadtest.md says about it

    answer = {"role": "assistant", "content": "Yes."}
    rows = Dataset.from_list([{"messages": [*SYSTEM["messages"], answer], "id": 1}] * 2)
    rows = rows.select_columns("messages")
    rows = rows.map(lambda row: {"messages": row["messages"][:-1]})
    rows.to_json(tmp_path / "prompts.jsonl")
    first, *_ = made(tmp_path, profile("file", output_tokens=7))
    assert json.loads(first)["messages"] == SYSTEM["messages"]
