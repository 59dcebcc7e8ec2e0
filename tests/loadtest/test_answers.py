import json
from typing import Any

import pytest
from longrope_loadtest.run.answers import Answer, BrokenAnswerError, error_message
from longrope_loadtest.run.record import Record

ROLE = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
DONE = "[DONE]"


def event(*choices: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"choices": list(choices), **fields})


def delta(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"delta": {"content": text}, "finish_reason": finish_reason}


def other(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 1, **delta(text, finish_reason)}


def read(*events: str, passkey: str | None = None) -> Record:
    """A stream whose events arrive at seconds 1, 2, 3, ..."""
    record = Record(0, "a", 0, 1, 1, 1, passkey=passkey)
    answer = Answer(record)
    for time, data in enumerate(events, 1):
        answer.feed(f"data: {data}\n\n".encode(), time)
    answer.end()
    return record


def test_a_chats_role_is_no_token() -> None:
    record = read(event(ROLE), event(delta("a")), event(delta("b", "length")), DONE)
    assert (record.first_token, record.last_token, record.token_gaps) == (2, 3, [1])


def test_an_end_token_without_text_is_a_token() -> None:
    end: dict[str, Any] = {"delta": {}, "finish_reason": "stop", "stop_reason": None}
    record = read(event(ROLE), event(delta("a")), event(end), event(usage={"completion_tokens": 2}))
    assert (record.first_token, record.last_token, record.token_gaps) == (2, 3, [1])
    assert record.tpot() == 1


def test_an_answer_of_only_an_end_token_is_one() -> None:
    record = read(event(ROLE), event({"delta": {}, "finish_reason": "stop"}), DONE)
    assert (record.first_token, record.last_token) == (2, 2)


def test_a_role_that_comes_with_text_is_a_token() -> None:
    first = {"delta": {"role": "assistant", "content": "a"}, "finish_reason": None}
    assert read(event(first), event(delta("b", "stop"))).first_token == 1


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_tokens(name: str) -> None:
    thought = {"delta": {name: "hm"}, "finish_reason": None}
    assert read(event(ROLE), event(thought), event(delta("b", "stop"))).first_token == 2


def test_tool_calls_are_tokens() -> None:
    call = {"delta": {"role": "assistant", "tool_calls": [{"index": 0}]}, "finish_reason": None}
    assert read(event(call), event(delta("", "tool_calls"))).first_token == 1


def test_completions_events_are_tokens_also_without_text() -> None:
    record = read(
        event({"text": "", "finish_reason": None}), event({"text": "b", "finish_reason": "stop"})
    )
    assert (record.first_token, record.last_token, record.token_gaps) == (1, 2, [1])


def test_counts_are_the_servers() -> None:
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 16},
        "factor_set": {"started": 8192, "finished": 16384, "promoted": True},
    }
    record = read(event(delta("a", "stop")), event(usage=usage), DONE)
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (20, 7, 16)
    assert record.promoted_to == "16384"
    assert record.last_token == 1


def test_a_request_that_stays_in_its_set_was_not_promoted() -> None:
    usage = {"factor_set": {"started": 8192, "finished": 8192, "promoted": False}}
    assert read(event(delta("a", "stop"), usage=usage)).promoted_to is None


def test_without_usage_there_is_no_count() -> None:
    record = read(event(delta("a", "stop"), usage=None), DONE)
    assert (record.prompt_tokens, record.output_tokens, record.tpot()) == (None, None, None)


def test_an_event_with_several_choices_is_one() -> None:
    record = read(
        event(delta("a"), other("b")),
        event(delta("c"), other("d")),
        event(delta("e", "stop"), other("f", "stop")),
        DONE,
    )
    assert (record.first_token, record.last_token, record.token_gaps) == (1, 3, [1, 1])


def test_several_completions_in_an_event_are_one() -> None:
    three = [{"index": n, "text": "x", "finish_reason": "length"} for n in range(3)]
    record = read(event({"index": 0, "text": "x", "finish_reason": None}), event(*three), DONE)
    assert (record.first_token, record.last_token, record.token_gaps) == (1, 2, [1])


def test_choices_in_events_of_their_own_are_one_stream_of_events() -> None:
    record = read(event(delta("a")), event(other("b", "stop")), event(delta("c", "stop")), DONE)
    assert record.token_gaps == [1, 1]


def test_of_several_choices_the_first_has_the_passkey() -> None:
    events = event(other("99999")), event(delta("123"), other("", "stop")), event(delta("45"))
    record = read(*events, event(delta("", "stop")), passkey="12345")
    assert (record.correct, record.answer) == (True, "12345")


def test_what_comes_after_the_end_is_no_token() -> None:
    """Servers repeat the last event with the usage; OpenAI's clients stop at [DONE]."""
    usage = {"completion_tokens": 2}
    record = read(event(delta("a")), event(delta("b", "stop")), event(delta(""), usage=usage), DONE)
    assert (record.last_token, record.token_gaps, record.output_tokens) == (2, [1], 2)
    record = read(event(delta("a")), event(delta("b", "stop")), DONE, event(delta("c")))
    assert (record.last_token, record.token_gaps) == (2, [1])


def test_a_choice_without_text_or_delta_is_no_token() -> None:
    """Azure's filter says of each choice what it found, in events of its own."""
    filtered: dict[str, Any] = {"index": 0, "finish_reason": None, "content_filter_results": {}}
    record = read(event(ROLE), event(filtered), event(delta("a")), event(delta("b", "stop")), DONE)
    assert (record.first_token, record.last_token) == (3, 4)


@pytest.mark.parametrize("count", ["7", 7.5, True, None, [7], -1, 10**30])
def test_counts_that_are_no_whole_numbers_are_none(count: object) -> None:
    usage = {"completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    record = read(event(delta("a", "stop"), usage=usage))
    assert (record.output_tokens, record.cached_tokens) == (None, None)


@pytest.mark.parametrize(("text", "correct"), [("It is 12345.", True), ("It is 1234.", False)])
def test_a_passkey_is_right_if_the_answer_has_it(text: str, correct: bool) -> None:
    record = read(
        event(ROLE), event(delta(text[:8])), event(delta(text[8:], "stop")), passkey="12345"
    )
    assert record.correct is correct
    assert record.answer == text


def test_half_a_surrogate_pair_in_a_passkeys_answer_can_be_written() -> None:
    record = read(event(delta("12345 \ud83d", "stop")), passkey="12345")
    assert (record.correct, record.answer) == (True, "12345 ?")


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((), "no answer"),
        ((event(ROLE),), "broken stream"),
        ((event(delta("a")),), "broken stream"),
        ((event(ROLE), DONE), "broken stream"),
        ((DONE,), "no answer"),
        ((event(delta("a")), DONE), "broken stream"),
        ((event(delta("a")), event(delta("b", "")), DONE), "broken stream"),
        ((DONE, event(delta("a", "stop"))), "no answer"),
        ((event(delta("a", "stop"), other("b")), DONE), "broken stream"),
        ((event(delta("a")), event(delta("", "abort")), DONE), "given up"),
        ((event({"text": "a", "finish_reason": "error"}),), "given up"),
        ((event({"finish_reason": "stop"}), DONE), "no token"),
        (("",), "not JSON"),
        (("[" * 100_000,), "not JSON"),
        (('{"choices": [], "n": ' + "1" * 5000 + "}",), "not JSON"),
        (('{"choices": [{"delta": {"content": ["a"]}}]}',), "no answer"),
        (('{"choices": [{"delta": {"content": "a"}, "index": []}]}',), "no answer"),
        (('{"choices": [{"delta": {"content": "a"}, "finish_reason": 1}]}',), "no answer"),
        (("{",), "not JSON"),
        (("[1]",), "not JSON"),
        (('{"choices": 5}',), "no answer"),
        (('{"choices": ["a"]}',), "no answer"),
        (('{"choices": [{"delta": "a"}]}',), "no answer"),
        ((json.dumps({"error": {"message": "no"}}),), "error event"),
    ],
)
def test_what_is_no_answer_is_named(events: tuple[str, ...], kind: str) -> None:
    with pytest.raises(BrokenAnswerError) as broken:
        read(*events)
    assert broken.value.kind == kind


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((), "The server sent nothing."),
        ((b'{"error": {"mess', b'age": "no GPU"}}'), """'{"error": {"message": "no GPU"}}'"""),
        ((b"<html>" + b"x" * 300,), f"'<html>{'x' * 194}'"),
        ((b": waiting\n\n",), r"': waiting\n\n'"),
    ],
)
def test_what_is_no_stream_is_quoted(pieces: tuple[bytes, ...], says: str) -> None:
    answer = Answer(Record(0, "a", 0, 1, 1, 1))
    for piece in pieces:
        answer.feed(piece, 1)
    with pytest.raises(BrokenAnswerError) as broken:
        answer.end()
    assert broken.value.kind == "no answer"
    assert says in str(broken.value)


@pytest.mark.parametrize("choice", [{"message": {"content": "key 12345"}}, {"text": "key 12345"}])
def test_a_whole_answer_is_read(choice: dict[str, Any]) -> None:
    record = Record(0, "a", 0, 1, 1, 1, passkey="12345")
    answer = Answer(record)
    answer.whole(event(choice, usage={"completion_tokens": 3}).encode(), 5)
    answer.end()
    assert (record.first_token, record.last_token, record.output_tokens) == (None, 5, 3)
    assert record.correct


def test_a_whole_answer_may_begin_with_a_byte_order_mark() -> None:
    record = Record(0, "a", 0, 1, 1, 1, passkey="1")
    answer = Answer(record)
    answer.whole(b"\xef\xbb\xbf" + event({"text": "1"}).encode(), 5)
    answer.end()
    assert record.correct


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"choices": [{"text": "a", "finish_reason": "abort"}]}', "given up"),
        (b'{"choices": [{"text": ["a"]}]}', "no answer"),
        (b"[" * 100_000, "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"choices": 5}', "no answer"),
        (b'{"choices": []}', "no answer"),
        (b'{"error": {"message": "full"}}', "error answer"),
        (b'["a"]', "not JSON"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_a_whole_answer_that_is_none_is_named(body: bytes, kind: str) -> None:
    def read_whole() -> None:
        answer = Answer(Record(0, "a", 0, 1, 1, 1))
        answer.whole(body, 1)
        answer.end()

    with pytest.raises(BrokenAnswerError) as broken:
        read_whole()
    assert broken.value.kind == kind


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"error": {"message": "too long", "code": 400}}', "too long"),
        (b'{"message": "too long"}', "too long"),
        (b'{"error": "too long"}', "too long"),
        (b'{"detail": "x"}', "{'detail': 'x'}"),
        (b"upstream gone", "upstream gone"),
        (b"[" * 100_000, "[" * 200),
        (b"\xff", "�"),
        (b'{"error": "cut \\ud83d"}', "cut ?"),  # half a pair, which no file of UTF-8 can hold
        (b"", ""),
    ],
)
def test_the_sentence_of_an_error_is_found(body: bytes, says: str) -> None:
    assert error_message(body) == says
