"""`longrope ask` and a server that answers: what is sent, what is printed, the exit status."""

import json
from pathlib import Path

import pytest

from tests.server.ask.conftest import Ask
from tests.server.ask.stand_in import DONE, PARIS, StandIn, delta, event, usage


def test_the_answer_goes_to_stdout_and_its_numbers_to_stderr(server: StandIn, ask: Ask) -> None:
    done = ask()
    assert done.status == 0
    assert done.out == "The capital is Paris.\n"
    assert "100 prompt and 7 answer tokens; the first after " in done.err
    assert " s in all; " in done.err
    assert done.err.endswith(" tokens/s.\n")
    assert "factor set" not in done.err


def test_the_question_is_sent_after_the_document(server: StandIn, ask: Ask, document: Path) -> None:
    ask()
    assert server.paths == ["/v1/models", "/tokenize", "/v1/chat/completions"]
    assert server.asked == {
        "model": "tiny",
        "messages": [
            {"role": "user", "content": f"{document.read_text()}\n\nWhat is the capital?"}
        ],
        "max_tokens": 512,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert server.received[1].body == {key: server.asked[key] for key in ("model", "messages")}
    assert all("authorization" not in request.headers for request in server.received)


def test_options_are_sent(server: StandIn, ask: Ask) -> None:
    assert server.cards is not None
    server.cards.append({"id": "other", "max_model_len": 1000})
    ask("--model", "other", "--max-tokens", "7", "--temperature", "0", "--api-key", "sk-1")
    assert server.asked["model"] == "other"
    assert server.asked["max_tokens"] == 7
    assert server.asked["temperature"] == 0
    assert {request.headers["authorization"] for request in server.received} == {"Bearer sk-1"}


def test_the_key_comes_from_the_environment(
    server: StandIn, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    ask()
    monkeypatch.setenv("LONGROPE_API_KEY", "ours")
    ask()
    ask("--api-key", "given")
    keys = [request.headers["authorization"] for request in server.received[::3]]
    assert keys == ["Bearer theirs", "Bearer ours", "Bearer given"]


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_address_may_be_openais_base_url(
    server: StandIn, run: Ask, document: Path, end: str
) -> None:
    assert run(document, "Which?", "--url", server.url + end).status == 0
    assert server.paths[0] == "/v1/models"


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_server_on_this_machine_is_asked_without_a_proxy(
    server: StandIn, ask: Ask, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    assert ask().status == 0
    assert ask("--url", server.url.replace("127.0.0.1", "localhost")).status == 0


def test_the_factor_set_is_said(server: StandIn, ask: Ask) -> None:
    server.headers = {"x-longrope-factor-set": "8192"}
    assert ask().err.startswith("factor set 8,192; 100 prompt")
    chosen = {"started": 8192, "finished": 8192, "promoted": False}
    server.stream = [*PARIS[:3], usage(100, 7, factor_set=chosen), DONE]
    assert ask().err.startswith("factor set 8,192; 100 prompt")


def test_a_promotion_is_said(server: StandIn, ask: Ask) -> None:
    chosen = {"started": 8192, "finished": 16384, "promoted": True}
    server.headers = {"x-longrope-factor-set": "8192"}
    server.stream = [*PARIS[:3], usage(8190, 7, factor_set=chosen), DONE]
    assert ask().err.startswith("factor set 8,192, promoted to 16,384; 8,190 prompt")
    assert json.loads(ask("--json").out)["factor_set"] == chosen


def test_json_is_one_object_and_nothing_else(server: StandIn, ask: Ask) -> None:
    server.stream = [b": prefill 1/2\n\n", *PARIS]
    done = ask("--json")
    assert done.status == 0
    assert done.err == ""
    said = json.loads(done.out)
    assert 0 < said.pop("first_token_seconds") <= said.pop("total_seconds")
    assert said.pop("tokens_per_second") > 0
    assert said == {
        "answer": "The capital is Paris.",
        "finish_reason": "stop",
        "factor_set": None,
        "prompt_tokens": 100,
        "answer_tokens": 7,
    }


def test_times_and_rate_are_those_of_the_stream(server: StandIn, ask: Ask) -> None:
    server.stream = [0.3, PARIS[1], 0.6, *PARIS[2:]]
    said = json.loads(ask("--json").out)
    assert 0.3 <= said["first_token_seconds"] < said["total_seconds"]
    assert said["total_seconds"] >= 0.9
    rate = 6 / (said["total_seconds"] - said["first_token_seconds"])
    assert said["tokens_per_second"] == pytest.approx(rate, rel=0.01)


def test_an_answer_that_was_cut_says_so(server: StandIn, ask: Ask) -> None:
    server.stream = [delta("The", "length"), usage(100, 1), DONE]
    done = ask("--max-tokens", "1")
    assert done.status == 0
    assert done.err.endswith("; cut at --max-tokens 1.\n")
    assert json.loads(ask("--json").out)["finish_reason"] == "length"


def test_another_end_is_named(server: StandIn, ask: Ask) -> None:
    server.stream = [delta("No.", "content_filter"), DONE]
    assert ask().err.endswith("; ended by content_filter.\n")


def test_letters_that_are_split_between_chunks_come_whole(server: StandIn, ask: Ask) -> None:
    whole = b"".join([b": keep-alive\n\n", delta("Zürich 日本 🗼", "stop"), DONE])
    server.stream = [whole[index : index + 1] for index in range(len(whole))]
    assert ask().out == "Zürich 日本 🗼\n"


def test_an_answer_with_a_last_line_end_gets_no_second_one(server: StandIn, ask: Ask) -> None:
    server.stream = [delta("One.\r\n\x1b[1mTwo.\n", "stop"), DONE]
    assert ask().out == "One.\r\n\x1b[1mTwo.\n"


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n"])
def test_lines_may_end_by_a_carriage_return(server: StandIn, ask: Ask, line_end: bytes) -> None:
    whole = b"\xef\xbb\xbf" + b"".join(PARIS).replace(b"\n", line_end)
    server.stream = [whole[index : index + 1] for index in range(len(whole))]
    assert ask().out == "The capital is Paris.\n"


def test_of_several_choices_the_first_is_the_answer(server: StandIn, ask: Ask) -> None:
    def both(text: str, finish: str | None = None) -> bytes:
        choices = [
            {"index": 1, "delta": {"content": "Rome"}, "finish_reason": "length"},
            {"index": 0, "delta": {"content": text}, "finish_reason": finish},
        ]
        return event({"choices": choices})

    server.stream = [both("Par"), event({"choices": []}), both("is.", "stop"), DONE]
    done = ask()
    assert (done.status, done.out) == (0, "Paris.\n")


def test_half_a_surrogate_pair_is_no_error(server: StandIn, ask: Ask) -> None:
    server.stream = [b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n', *PARIS]
    assert ask().out == "?The capital is Paris.\n"


def test_a_server_without_usage_or_done_is_served(server: StandIn, ask: Ask) -> None:
    server.stream = [delta("Paris."), delta("", "stop")]
    done = ask()
    assert (done.status, done.out) == (0, "Paris.\n")
    assert "tokens" not in done.err


def test_a_connection_that_breaks_after_the_end_took_nothing(server: StandIn, ask: Ask) -> None:
    server.stream, server.ending = [delta("Paris.", "stop")], "cut"
    assert (ask().status, ask().out) == (0, "Paris.\n")


def test_events_of_other_kinds_are_passed_over(server: StandIn, ask: Ask) -> None:
    server.stream = [event([]), event({"choices": [{"delta": {"reasoning": "Hm"}}]}), *PARIS]
    assert ask().out == "The capital is Paris.\n"
