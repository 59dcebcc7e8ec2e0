"""What a user can mend: one sentence and status 2, before a request is sent."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from longrope_loadtest.results import results
from longrope_loadtest.results.results import FORMAT
from longrope_loadtest.run.preflight import served_model

from tests.loadtest.commands import COMMAND, Outcome, loadtest, written
from tests.loadtest.mocking import MockServer, serving

TEN = {"kind": "constant", "rate": 50, "requests": 10}


@pytest.fixture(scope="module")
def locked() -> Iterator[MockServer]:
    with serving("--key", "secret", "--max-model-len", "100") as server:
        yield server


def refused(outcome: Outcome, says: str) -> None:
    assert outcome.status == 2
    assert outcome.stderr.startswith("longrope: ")
    assert outcome.stderr.count("\n") == 1
    assert says in outcome.stderr


def test_a_bad_profile(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, {**TEN, "rate": -1})
    outcome = loadtest("run", path, "--url", server.url, "-o", tmp_path / "out")
    refused(outcome, f"{path}: arrivals.constant.rate: Input should be greater than 0, not -1")
    assert server.truths() == []
    assert not (tmp_path / "out").exists()


def test_a_profile_that_is_not_there(server: MockServer) -> None:
    refused(loadtest("run", "nowhere.yaml", "--url", server.url), "There is no file nowhere.yaml")


def test_a_trace_that_is_not_there(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, {"kind": "trace", "path": "gone.jsonl"})
    refused(loadtest("run", path, "--url", server.url), "gone.jsonl cannot be read")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, TEN)
    outcome = loadtest("run", path, "--url", "http://127.0.0.1:9", "-o", tmp_path / "out")
    refused(outcome, "No server can be reached at http://127.0.0.1:9")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://a\n", "http://a:b", "localhost"]
)
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    outcome = loadtest("run", written(tmp_path, TEN), "--url", url)
    refused(outcome, f"{url.removesuffix('//')!r} is not an address")


@pytest.mark.parametrize(
    "url",
    ["http://bob:secret@127.0.0.1", "http://127.0.0.1/?key=secret", "http://127.0.0.1#secret"],
)
def test_an_address_with_more_than_an_address(tmp_path: Path, url: str) -> None:
    outcome = loadtest("run", written(tmp_path, TEN), "--url", url, "--model", "mock")
    refused(outcome, "--url must be an address alone")
    assert "secret" not in outcome.stderr


def test_a_key_that_is_missing_or_wrong(locked: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN)
    refused(loadtest("run", path, "--url", locked.url), "give one in LONGROPE_API_KEY")
    outcome = loadtest("run", path, "--url", locked.url, LONGROPE_API_KEY="wrong")
    refused(outcome, "give another")
    assert "wrong" not in outcome.stderr


def test_the_key_is_taken_from_the_environment(locked: MockServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("LONGROPE_API_KEY", "OPENAI_API_KEY"):
        where = out / name
        path = written(tmp_path, TEN)
        outcome = loadtest("run", path, "--url", locked.url, "-o", where, **{name: "secret"})
        assert outcome.status == 0
        for file in where.iterdir():
            assert "secret" not in file.read_text()


@pytest.mark.parametrize("key", ["secret\n", "secret ", "sécret"])
def test_a_key_that_no_header_can_have(server: MockServer, tmp_path: Path, key: str) -> None:
    arguments = ("run", written(tmp_path, TEN), "--url", server.url, "-o", tmp_path / "out")
    outcome = loadtest(*arguments, LONGROPE_API_KEY=key)
    refused(outcome, "The API key has a space or a line end around it, or a character outside")
    assert "cret" not in outcome.stderr


def test_a_model_that_the_server_has_not(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN)
    outcome = loadtest("run", path, "--url", server.url, "--model", "gpt-9")
    refused(outcome, "has no model gpt-9; it has mock")


def test_a_request_that_the_model_cannot_take(locked: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN, prompt={"kind": "words", "tokens": 93})
    out = tmp_path / "out"
    outcome = loadtest("run", path, "--url", locked.url, "-o", out, "--api-key", "secret")
    refused(
        outcome, "Class a has a request of 93 prompt and 8 output tokens; mock takes 100 in all"
    )
    assert not out.exists()


def test_a_server_that_lists_no_models(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN)
    outcome = loadtest("run", path, "--url", f"{server.url}/elsewhere")
    refused(outcome, "lists no models (status 404 from /v1/models): say which with --model")


def test_a_server_that_redirects(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN)
    for more in ((), ("--model", "mock")):
        outcome = loadtest("run", path, "--url", f"{server.url}/moved", *more)
        refused(outcome, "redirects /v1/models to /v1/models: the load follows no redirects")
    assert server.truths() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("sweep", "--rates", "1,1000000"),
            "1000000 requests/s: 1,000,000 a second for 20 s would be",
        ),
        (("sweep", "--rates", "9" * 400), "inf requests/s: rate: Input should be a finite number"),
        (("run", "--processes", "257"), "--processes"),
        (("run", "--seed", str(2**63)), "--seed"),
        (("capacity", "--repeats", "101"), "--repeats"),
    ],
)
def test_a_number_beyond_all_bounds(
    server: MockServer, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    path = written(tmp_path, {"kind": "constant", "rate": 5, "duration": 20}, slo={"ttft": 1})
    command, *more = arguments
    outcome = loadtest(command, path, "--url", server.url, "-o", tmp_path / "out", *more)
    assert outcome.status == 2
    assert says in outcome.stderr
    assert server.truths() == []
    assert not (tmp_path / "out").exists()


def test_requests_that_find_no_room(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN, prompt={"kind": "words", "tokens": 50_000})
    arguments = ("run", path, "--url", server.url, "-o", tmp_path / "out")
    # bash's limit of a file's size is in KiB; each of the ten requests has 300.
    limited = ["bash", "-c", 'ulimit -f 500 && exec "$@"', "bash", *COMMAND, *map(str, arguments)]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    said = done.stderr.lstrip()  # an empty line is left of the progress bar
    refused(Outcome(done.returncode, done.stdout, said), "should be a directory with room")
    assert server.truths() == []


@pytest.mark.parametrize("length", ["4096", None, 4.5, True])
def test_a_length_that_is_no_number_is_not_known(
    monkeypatch: pytest.MonkeyPatch, length: object
) -> None:
    answer = httpx.Response(200, json={"data": [{"id": "m", "max_model_len": length}]})
    monkeypatch.setattr(httpx, "get", lambda *_, **__: answer)
    assert served_model("http://127.0.0.1", None, None).max_tokens is None


def test_a_directory_that_holds_a_result(server: MockServer, tmp_path: Path) -> None:
    path, out = written(tmp_path, TEN), tmp_path / "out"
    assert loadtest("run", path, "--url", server.url, "-o", out).status == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    server.truths()
    refused(loadtest("run", path, "--url", server.url, "-o", out), "holds a result already")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert server.truths() == []


def test_a_directory_that_another_run_was_quicker_to_take(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the requests were made, which may take long."""
    path, out = written(tmp_path, TEN), tmp_path / "out"
    assert loadtest("run", path, "--url", server.url, "-o", out).status == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    server.truths()
    monkeypatch.setattr(results, "new_directory", lambda directory: directory)
    outcome = loadtest("run", path, "--url", server.url, "-o", out)
    assert outcome.status == 2
    assert "holds a result already" in outcome.stderr
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert server.truths() == []


def test_a_directory_that_cannot_be_made(server: MockServer, tmp_path: Path) -> None:
    path = written(tmp_path, TEN)
    outcome = loadtest("run", path, "--url", server.url, "-o", path / "out")
    refused(outcome, f"{path / 'out'} cannot be made")


def test_a_capacity_search_without_a_rate_or_objectives(server: MockServer, tmp_path: Path) -> None:
    closed = written(tmp_path, {"kind": "closed", "users": 1, "requests": 1}, slo={"ttft": 1})
    arguments = ("capacity", closed, "--url", server.url, "-o", tmp_path / "out")
    refused(loadtest(*arguments), "constant, poisson or gamma")
    written(tmp_path, TEN)
    refused(loadtest(*arguments), "a class with objectives (slo)")
    assert server.truths() == []


def test_the_old_form_of_a_capacity_search_is_answered_with_the_new_one(tmp_path: Path) -> None:
    for old in (("--find-capacity",), ("--find-capacity", "--repeats", "3")):
        refused(loadtest("run", "chat", *old), "`longrope loadtest capacity chat`")


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_result_that_is_not_there(tmp_path: Path, command: str) -> None:
    directories = [tmp_path] * (2 if command == "compare" else 1)
    refused(loadtest(command, *directories), f"{tmp_path} holds no result")


def test_a_profile_to_print_that_is_not_there() -> None:
    refused(loadtest("profiles", "chta"), "chat, documents, mixed, quarter-million, two-million")


WHOLE = json.dumps({"format": FORMAT, "profile": {}}).encode()


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize(
    ("result", "requests", "metrics", "says"),
    [
        (b"[]", "", "", "has the format None"),
        (b"\xff", "", "", "holds no result"),
        (WHOLE, '{"number": ', "", "holds a result that was changed"),
        (WHOLE, '{"new": 1}', "", "unexpected keyword argument 'new'"),
        (WHOLE, "", '{"at": 1}', "missing 1 required positional argument"),
        (WHOLE, "", "", "classes Field required"),
    ],
)
def test_a_result_that_was_changed(
    tmp_path: Path, command: str, result: bytes, requests: str, metrics: str, says: str
) -> None:
    (tmp_path / "result.json").write_bytes(result)
    (tmp_path / "requests.jsonl").write_text(requests)
    (tmp_path / "server_metrics.jsonl").write_text(metrics)
    directories = [tmp_path] * (2 if command == "compare" else 1)
    refused(loadtest(command, *directories), says)
