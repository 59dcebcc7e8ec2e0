"""What goes wrong is one sentence on stderr: status 2 for the user to mend, 1 for the server's."""

import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.server.ask.conftest import Ask, Done
from tests.server.ask.stand_in import PARIS, Reply, StandIn, delta, event, refusal

FAR = "Mon, 01 Jan 99999999999 00:00:00 GMT"
SECRETS = ("sk-secret", "What is the capital", "a city on the Seine")


def sentence(done: Done, status: int) -> str:
    """The sentence of a command that ended with `status`; asserts that it tells no secret."""
    assert done.status == status, done
    assert done.err.startswith("longrope: ")
    assert done.err.endswith(".\n")
    assert done.err.count("\n") == 1
    assert not any(secret in done.err for secret in SECRETS)
    return done.err.removeprefix("longrope: ").strip()


def test_a_document_that_cannot_be_read_is_said_before_a_server_is_asked(
    server: StandIn, run: Ask
) -> None:
    said = sentence(run("no-such-file.txt", "Why?", "--url", server.url), 2)
    assert said.startswith("no-such-file.txt does not exist")
    assert server.received == []


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(server: StandIn, ask: Ask, question: str) -> None:
    assert sentence(ask(question=question), 2).startswith("QUESTION is empty")
    assert server.received == []


def test_a_question_that_is_no_text_is_refused(ask: Ask) -> None:
    assert sentence(ask(question="caf\udce9?"), 2).startswith("QUESTION is not UTF-8 text")


def test_a_question_without_quotes_is_refused_and_not_repeated(ask: Ask) -> None:
    assert "put it in quotes" in sentence(ask("sk-secret", "city", question="What"), 2)


def test_a_temperature_that_is_no_number_is_refused(server: StandIn, ask: Ask) -> None:
    assert sentence(ask("--temperature", "inf"), 2).startswith("--temperature is inf")
    for value in ("nan", "-1", "hot"):
        assert ask("--temperature", value).status == 2
    assert server.received == []


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://127.0.0.1", "http://", "", "http://a:b"),
        *("http://a..b", f"http://{'a' * 64}", "http://xn--"),
    ],
)
def test_what_is_no_address_is_refused(run: Ask, document: Path, url: str) -> None:
    assert sentence(run(document, "Why?", "--url", url), 2).startswith(f"--url is {url!r}")


@pytest.mark.parametrize(
    "url",
    [
        *("http://me:sk-secret@127.0.0.1", "http://127.0.0.1/?sk-secret", "http://127.0.0.1?"),
        *("http://me:sk-secret@a..b", "http://me:sk-secret@127.0.0.1:x"),
    ],
)
def test_an_address_with_a_key_in_it_is_refused_and_not_repeated(
    run: Ask, document: Path, url: str
) -> None:
    assert "an address alone" in sentence(run(document, "Why?", "--url", url), 2)


@pytest.mark.parametrize("key", ["sk-secret\nx", "sk secret", "sk-secrét"])
def test_a_key_that_http_cannot_carry_is_refused(ask: Ask, key: str) -> None:
    assert sentence(ask("--api-key", key), 2).startswith("The API key holds")


def test_nobody_at_the_address(run: Ask, document: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = sentence(run(document, "Why?", "--url", url), 2)
    assert said.startswith(f"Nothing answers at {url}")
    assert "`longrope serve`" in said


def test_a_server_of_another_kind(server: StandIn, ask: Ask) -> None:
    server.replies = [Reply(200, b"<html>")]
    assert "name an OpenAI-compatible server" in sentence(ask(), 2)


def test_an_address_without_tls(server: StandIn, run: Ask, document: Path) -> None:
    url = server.url.replace("http:", "https:")
    said = sentence(run(document, "Why?", "--url", url), 2)
    assert said.startswith(f"{url} cannot be reached by TLS ([SSL")
    assert server.received == []


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_says_where_it_leads(server: StandIn, ask: Ask, status: int) -> None:
    server.replies = [Reply(status, headers={"Location": "https://127.0.0.1/\x9b/v1/models"})]
    said = sentence(ask(), 2)
    assert said.startswith(f"{server.url} redirects /v1/models to https://127.0.0.1/\ufffd/v1/mo")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://me:sk-secret@127.0.0.1", "[::"])
def test_a_proxy_that_cannot_be_used(
    run: Ask, document: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    said = sentence(run(document, "Why?", "--url", "http://example.invalid"), 2)
    assert said.startswith("The proxy that the environment names")


def test_a_proxy_that_refuses(
    server: StandIn, run: Ask, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    said = sentence(run(document, "Why?", "--url", "https://example.invalid"), 2)
    assert said.startswith("The proxy that the environment names does not lead to https://exam")


def test_certificates_that_cannot_be_read(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    assert "SSL_CERT_DIR names cannot be read (No such file" in sentence(ask(), 2)


def test_a_missing_key_says_how_to_give_one(server: StandIn, ask: Ask) -> None:
    server.replies = [refusal(401, "No API key.")]
    said = sentence(ask(), 2)
    assert said.startswith(f"{server.url} asks for a key: ")
    assert "--api-key" in said
    assert "LONGROPE_API_KEY" in said


def test_a_wrong_key_is_not_repeated(server: StandIn, ask: Ask) -> None:
    server.replies = [refusal(401, "sk-secret is not known.")]
    assert "does not know the API key" in sentence(ask("--api-key", "sk-secret"), 2)


def test_why_a_key_is_refused_is_quoted(server: StandIn, ask: Ask) -> None:
    server.replies = [refusal(401, "The API key that came with the request has expired.")]
    said = sentence(ask("--api-key", "sk-secret"), 2)
    assert "given: The API key that came with the request has expired. Give one with" in said


def test_a_refusal_is_quoted(server: StandIn, ask: Ask) -> None:
    server.cards = None
    server.replies = [Reply(404), refusal(404, "The model `x` does not exist.")]
    said = sentence(ask("--model", "x"), 2)
    assert said.endswith("/v1/chat/completions with status 404: The model `x` does not exist.")


def test_a_refusal_that_repeats_the_prompt_is_not_quoted(server: StandIn, ask: Ask) -> None:
    server.cards = None
    server.replies = [Reply(404), refusal(400, "bad input: 'Its capital is Paris, a city on the'")]
    assert sentence(ask("--model", "x"), 2).endswith("with status 400.")


def test_a_failing_server_is_status_1(server: StandIn, ask: Ask) -> None:
    server.replies = [Reply(500, b"<html>oops")]
    assert sentence(ask(), 1).endswith("/v1/models with status 500.")


def test_a_busy_server_is_asked_again_when_it_says(
    server: StandIn, ask: Ask, waits: list[float]
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    server.replies = [
        refusal(429, "Too many.", Retry_After="3"),
        refusal(503, "Starting.", Retry_After=later),
    ]
    done = ask()
    assert (done.status, done.out) == (0, "The capital is Paris.\n")
    assert waits[0] == 3
    assert waits[1] == pytest.approx(98, abs=4)
    assert "busy (429) and asks to wait: trying again in 3 s (1 of 5)." in done.err
    assert "busy (503)" in done.err


def test_a_busy_chat_is_asked_again_and_json_stays_alone(
    server: StandIn, ask: Ask, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply, busy = server.reply, [refusal(429, "Full.", Retry_After="2")]
    monkeypatch.setattr(
        server, "reply", lambda path: busy.pop() if "chat" in path and busy else reply(path)
    )
    done = ask("--json")
    assert (done.status, done.err, waits) == (0, "", [2])
    assert json.loads(done.out)["answer"] == "The capital is Paris."
    assert server.paths.count("/v1/chat/completions") == 2


def test_a_server_that_stays_busy_is_given_up_after_five_retries(
    server: StandIn, ask: Ask, waits: list[float]
) -> None:
    server.replies = [refusal(429, "Too many requests.", Retry_After="1")] * 9
    done = ask()
    assert done.status == 1
    last = done.err.splitlines()[-1]
    assert last == f"longrope: {server.url} is too busy (429): Too many requests."
    assert waits == [1] * 5
    assert len(server.received) == 6


@pytest.mark.parametrize("value", [None, "soon", "-1", "1e3", "86401", "9" * 400, FAR])
def test_a_busy_server_that_names_no_sensible_time_is_not_asked_again(
    server: StandIn, ask: Ask, waits: list[float], value: str | None
) -> None:
    headers = {} if value is None else {"Retry_After": value}
    server.replies = [refusal(503, "Draining.", **headers)]
    assert "is too busy (503): Draining" in sentence(ask(), 1)
    assert waits == []


@pytest.mark.parametrize("answer", [None, "json"])
def test_an_error_in_the_stream_keeps_what_came(
    server: StandIn, ask: Ask, answer: str | None
) -> None:
    broken = event({"error": {"message": "The engine died.", "code": 500}})
    server.stream = [PARIS[1], broken, delta("never shown")]
    done = ask(*(["--json"] if answer else []))
    assert sentence(done, 1) == f"{server.url} broke the answer off: The engine died."
    if answer:
        said = json.loads(done.out)
        assert (said["answer"], said["finish_reason"]) == ("The capital", None)
    else:
        assert done.out == "The capital\n"


@pytest.mark.parametrize("ending", ["complete", "cut"])
def test_a_stream_that_ends_early_keeps_what_came(server: StandIn, ask: Ask, ending: str) -> None:
    server.stream, server.ending = PARIS[:2], ending
    done = ask()
    assert "before the answer was complete" in sentence(done, 1)
    assert done.out == "The capital\n"


def test_a_stream_that_is_done_without_a_finish_reason_is_no_answer(
    server: StandIn, ask: Ask
) -> None:
    server.stream = [PARIS[1], PARIS[-1]]
    assert "ended the stream before" in sentence(ask(), 1)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_server_gave_up(server: StandIn, ask: Ask, reason: str) -> None:
    server.stream = [delta("The", reason), PARIS[-1]]
    done = ask()
    assert f"(finish_reason {reason})" in sentence(done, 1)
    assert done.out == "The\n"


@pytest.mark.parametrize("data", [b"{oops", b"", b"[" * 100_000, b"1" * 5000])
def test_an_event_that_is_no_json(server: StandIn, ask: Ask, data: bytes) -> None:
    server.stream = [PARIS[1], b"data: " + data + b"\n\n"]
    assert "not JSON" in sentence(ask(), 1)


def test_a_server_that_falls_silent(
    server: StandIn, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longrope_server.ask.server.SILENT_SECONDS", 1)
    server.stream, server.ending = PARIS[:2], "held"
    done = ask()
    assert sentence(done, 1) == f"{server.url} was silent for 1 seconds."
    assert server.left.wait(5)


def test_bytes_may_be_far_apart_but_a_connection_not() -> None:
    from longrope_server.ask.server import Server

    with Server("http://127.0.0.1:1", None, [], lambda *_: None) as server:
        assert server.client.timeout.read is not None
        assert server.client.timeout.read >= 600
        assert server.client.timeout.connect == 10
