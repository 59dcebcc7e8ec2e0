"""`longrope ask` against `longrope serve`: the embedded model and documents of two lengths."""

import json
import pydoc_data.topics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from longrope_server.ask import fits
from longrope_server.ask.answer import Answer
from longrope_server.ask.question import Prefill, Question, put
from longrope_server.ask.server import Server

from tests.serving import Server as Started

ASK = [str(Path(sys.executable).with_name("longrope")), "ask"]
REFERENCE = "\n\n".join(pydoc_data.topics.topics.values())
QUESTION = "What is this document about?"


@pytest.fixture
def server(embedded_server: Started) -> str:
    return embedded_server.url


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return tmp_path / "reference.txt"


def ask(url: str, document: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [*ASK, str(document), QUESTION, "--url", url, "--temperature", "0", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


def asked_in_json(url: str, document: Path) -> dict[str, Any]:
    done = ask(url, document, "--max-tokens", "24", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["answer"].strip()
    assert said["finish_reason"] in ("stop", "length")
    assert 1 <= said["answer_tokens"] <= 24
    assert 0 < said["first_token_seconds"] <= said["total_seconds"]
    return said


def test_a_document_of_1500_tokens_is_served_by_the_first_set(server: str, document: Path) -> None:
    document.write_text(REFERENCE[:6_500])
    said = asked_in_json(server, document)
    assert 1_000 < said["prompt_tokens"] < 2_000
    assert said["factor_set"] == {"started": 8192, "finished": 8192, "promoted": False}

    done = ask(server, document, "--max-tokens", "24")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.startswith(f"factor set 8,192; {said['prompt_tokens']:,} prompt and ")


def test_how_far_the_server_has_read_is_understood(server: str) -> None:
    question = Question(REFERENCE[20_000:29_500], QUESTION, max_tokens=2)
    answer = Answer()
    with Server(server, None, [], lambda *_: None) as asked:
        model = fits.choose(asked, None)
        counted = fits.length(asked, model, question)
        parts = list(put(asked, model.name, question, answer))
    read = [part for part in parts if isinstance(part, Prefill)]
    assert read
    assert [part.computed for part in read] == sorted(part.computed for part in read)
    assert {part.total for part in read} == {counted.tokens}
    assert (model.limit, counted.exact, counted.tokens) == (32_768, True, answer.prompt_tokens)


def test_a_document_that_is_too_long_is_counted_and_not_sent(server: str, document: Path) -> None:
    document.write_text(REFERENCE)
    done = ask(server, document)
    assert (done.returncode, done.stdout) == (2, "")
    assert "The document and the question have 11" in done.stderr
    assert "in the 32,768 that the server takes: ask about a part of it.\n" in done.stderr


@pytest.mark.slow
def test_a_document_of_9000_tokens_is_served_by_the_next_set(server: str, document: Path) -> None:
    document.write_text(REFERENCE[:40_000])
    said = asked_in_json(server, document)
    assert 8_500 < said["prompt_tokens"] < 11_000
    assert said["factor_set"] == {"started": 32768, "finished": 32768, "promoted": False}
