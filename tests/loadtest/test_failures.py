"""What goes wrong while a run goes on: each request's own failure, and the run goes on."""

import subprocess
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from longrope_loadtest.profiles.profile import Profile
from longrope_loadtest.results.figures import summary

from tests.loadtest.commands import COMMAND, requests_in, written
from tests.loadtest.mocking import MockServer, driven, profile

SIX = {"kind": "constant", "rate": 60, "requests": 6}
NICE = {"first": 0.02, "gap": 0.01, "tokens": 6}


@pytest.mark.parametrize(
    ("mock", "kind", "message"),
    [
        ({"cut_at": 0}, "broken connection", "disconnected"),
        ({"cut_at": 3}, "broken connection", "not completed"),
        ({"end_at": 3}, "broken stream", "ended before the answer did"),
        ({"error_at": 3}, "error event", "the engine died"),
        ({"raw_at": 3, "raw": "data: {\n\n"}, "not JSON", "{"),
        ({"raw_at": 3, "raw": 'data: {"choices": ["x"]}\n\n'}, "no answer", "choices"),
        ({"status": 400}, "http 400", "mock says 400"),
        ({"status": 500}, "http 500", "mock says 500"),
    ],
)
def test_a_failure_is_named_and_the_next_request_sent(
    server: MockServer, mock: dict[str, Any], kind: str, message: str
) -> None:
    run = driven(profile(SIX, NICE | mock), server.url)
    assert len(server.truths()) == 6
    for record in run.records:
        assert (record.outcome, record.error) == ("failed", kind)
        assert message in (record.message or "")
        assert record.ended > record.dispatched
    figures = summary(run.records, run.profile)["a"]
    assert figures["errors"] == {kind: 6}
    assert figures["latency"]["ttft"] is None
    assert figures["goodput"]["share_of_requests"] == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_answer(server: MockServer, status: int) -> None:
    """The server would answer the second time, a GET with an error and a POST as if nothing was."""
    away = {"status": status, "refusals": 1, "location": "/v1/chat/completions"}
    run = driven(profile(SIX, NICE | away), server.url)
    assert len(server.truths()) == 6
    for record in run.records:
        assert (record.outcome, record.error, record.status) == ("failed", f"http {status}", status)
        assert record.message == "to /v1/chat/completions"
        assert record.first_token is None


def test_what_came_before_a_failure_is_kept(server: MockServer) -> None:
    for mock in ({"cut_at": 3}, {"end_at": 3}, {"error_at": 3}):
        for record in driven(profile(SIX, NICE | mock), server.url).records:
            assert record.first_token is not None
            assert len(record.token_gaps) == 2


@pytest.mark.parametrize("after", ["end", "cut", "open"])
def test_an_answer_is_complete_with_done(server: MockServer, after: str) -> None:
    run = driven(profile(SIX, {**NICE, "after_done": after}, stall=5), server.url)
    assert {(r.outcome, r.error, r.output_tokens) for r in run.records} == {("complete", None, 6)}
    assert all(record.ended - record.dispatched < 4 for record in run.records)


def test_a_stream_that_stands_still_is_given_up(server: MockServer) -> None:
    run = driven(profile(SIX, {**NICE, "stall_at": 3}, stall=0.5), server.url)
    for record in run.records:
        assert (record.outcome, record.error) == ("failed", "stalled")
        assert len(record.token_gaps) == 2
    waited = [record.ended - (record.last_token or 0) for record in run.records]
    assert median(waited) == pytest.approx(0.5, abs=0.1)


def test_a_server_that_never_answers_is_given_up(server: MockServer) -> None:
    for stream in (True, False):
        made = profile(SIX, {"first": 60, "role_early": False}, stall=0.5, stream=stream)
        run = driven(made, server.url)
        assert {record.error for record in run.records} == {"stalled"}


def test_tokens_keep_a_slow_answer_alive_and_the_timeout_ends_it(server: MockServer) -> None:
    slow = {"gap": 0.1, "tokens": 50}
    run = driven(profile(SIX, slow, stall=0.5, timeout=1), server.url)
    assert {record.error for record in run.records} == {"timeout"}
    took = [record.ended - record.dispatched for record in run.records]
    assert median(took) == pytest.approx(1, abs=0.1)


def test_usage_may_be_left_out(server: MockServer) -> None:
    run = driven(profile(SIX, {**NICE, "usage": False}), server.url)
    figures = summary(run.records, run.profile)["a"]
    assert figures["requests"]["complete"] == 6
    assert figures["latency"]["ttft"]["count"] == 6
    assert figures["latency"]["tpot"] is figures["output_tokens"] is None


def test_nobody_listens() -> None:
    run = driven(profile(SIX), "http://127.0.0.1:9")
    assert {(r.outcome, r.error) for r in run.records} == {("failed", "no connection")}
    assert all("127.0.0.1:9" in (r.message or "") for r in run.records)


def test_a_limit_of_our_own_is_not_the_servers(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, {"kind": "constant", "rate": 200, "requests": 100}, {"first": 2})
    arguments = ("run", path, "--url", server.url, "-o", tmp_path / "out")
    limited = ["bash", "-c", 'ulimit -n 64 && exec "$@"', "bash", *COMMAND, *map(str, arguments)]
    said = subprocess.run(limited, capture_output=True, text=True, check=False).stderr
    errors = Counter(line["error"] for line in requests_in(tmp_path / "out"))
    assert set(errors) == {None, "client limit"}
    assert f"refused it a connection for {errors['client limit']} requests" in said.replace(
        "\n", " "
    )


def test_one_class_fails_and_the_other_does_not(server: MockServer) -> None:
    each: dict[str, Any] = {"prompt": {"kind": "words", "tokens": 8}, "output_tokens": 4}
    classes = {
        "good": {**each, "extra": {"mock": NICE}},
        "bad": {**each, "extra": {"mock": {"stall_at": 1}}, "stall": 0.3},
    }
    arrivals = {"kind": "constant", "rate": 40, "requests": 40}
    run = driven(Profile.model_validate({"arrivals": arrivals, "classes": classes}), server.url)
    assert Counter((r.class_name, r.error) for r in run.records).keys() == {
        ("good", None),
        ("bad", "stalled"),
    }


def test_a_storm_of_refusals_is_over_as_soon_as_it_is_sent(server: MockServer) -> None:
    began = time.monotonic()
    storm = {"kind": "constant", "rate": 300, "requests": 600}
    run = driven(profile(storm, {"status": 503, "retry_after": "30"}), server.url)
    assert time.monotonic() - began < 30  # nobody waited for Retry-After
    assert {record.error for record in run.records} == {"http 503"}
    assert len(server.truths()) == 600
