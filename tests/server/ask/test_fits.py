"""A document that does not fit is refused before anything is sent to the model."""

import pytest

from tests.server.ask.conftest import Ask
from tests.server.ask.stand_in import StandIn

CHAT = "/v1/chat/completions"


def test_a_document_that_does_not_fit_is_not_sent(server: StandIn, ask: Ask) -> None:
    server.tokens = 900
    done = ask("--max-tokens", "101")
    assert done.status == 2
    assert done.out == ""
    assert done.err == (
        "longrope: The document and the question have 900 tokens, which leaves no room for an "
        "answer of 101 (--max-tokens) in the 1,000 that the server takes: ask about a part of it, "
        "or for an answer of 100 tokens at most.\n"
    )
    assert CHAT not in server.paths


def test_a_document_that_fits_exactly_is_sent(server: StandIn, ask: Ask) -> None:
    server.tokens = 900
    assert ask("--max-tokens", "100").status == 0
    assert CHAT in server.paths


def test_a_document_that_fills_the_window_leaves_no_shorter_answer(
    server: StandIn, ask: Ask
) -> None:
    server.tokens = 1000
    done = ask("--max-tokens", "1")
    assert done.status == 2
    assert done.err.endswith(": ask about a part of it.\n")


def test_without_tokenize_the_length_is_estimated(server: StandIn, ask: Ask) -> None:
    server.tokens = None
    done = ask(question="日本" * 1000)
    assert done.status == 2
    assert "have about 1,5" in done.err
    assert CHAT not in server.paths
    assert ask(question="short").status == 0


@pytest.mark.parametrize("limit", [None, "1000", True])
def test_a_server_that_names_no_limit_is_asked(server: StandIn, ask: Ask, limit: object) -> None:
    server.cards, server.tokens = [{"id": "tiny", "max_model_len": limit}], 10**6
    assert ask().status == 0
    assert server.paths == ["/v1/models", CHAT]


def test_a_model_that_is_not_listed_is_asked_for_all_the_same(server: StandIn, ask: Ask) -> None:
    assert ask("--model", "hidden").status == 0
    assert server.asked["model"] == "hidden"
    server.cards = None
    assert ask("--model", "hidden").status == 0


@pytest.mark.parametrize("cards", [None, [], [{"object": "model"}]])
def test_without_a_list_of_models_one_is_to_be_named(
    server: StandIn, ask: Ask, cards: list[dict[str, object]] | None
) -> None:
    server.cards = cards
    done = ask()
    assert done.status == 2
    assert done.err == (
        f"longrope: {server.url} lists no models: name the one to ask with --model.\n"
    )
