"""Windows and needles."""

import itertools
from typing import Any

import pytest
from longrope_factors.models.texts import Text
from longrope_factors.search.documents import NEEDLES, skipping_to, windows, with_needles

from tests.factors.tiny import byte_level, metaspace

TEXTS = [Text("a", "0" * 64, list(range(100))), Text("b", "1" * 64, list(range(200, 350)))]


def test_windows_go_round_the_texts_without_overlap() -> None:
    found = windows(TEXTS, 40, 2)
    assert [document.name for document in found] == ["a@0", "b@0", "a@50", "b@75"]
    assert found[3].token_ids == tuple(range(275, 315))
    assert {len(document.token_ids) for document in found} == {40}


def test_a_text_with_too_few_windows_is_named() -> None:
    with pytest.raises(ValueError, match="a: has 100 tokens, which is 2 windows of 40; 3"):
        windows(TEXTS, 40, 3)


@pytest.mark.parametrize("tokenizer", [byte_level(), metaspace()])
def test_answers_alone_count(tokenizer: Any) -> None:
    ids = tokenizer("Irrelevant text about the sun. " * 200)["input_ids"][:1500]
    (document,) = windows([Text("t", "0" * 64, ids)], 1500, 1)
    needles = with_needles(document, tokenizer, 0)
    assert len(needles.token_ids) == 1500
    assert needles.scored is not None
    answers = tokenizer.decode([needles.token_ids[index] for index in needles.scored])
    text = tokenizer.decode(needles.token_ids)
    digits = "".join(filter(str.isdigit, answers))
    assert len(digits) == 5 * NEEDLES
    for start in range(0, 5 * NEEDLES, 5):
        assert text.count(digits[start : start + 5]) == 2
    assert needles == with_needles(document, tokenizer, 0)
    assert needles != with_needles(document, tokenizer, 1)


def test_a_window_without_room_is_refused() -> None:
    (document,) = windows([Text("t", "0" * 64, list(range(50)))], 50, 1)
    with pytest.raises(ValueError, match="too short for 4 needles: --length should be at least"):
        with_needles(document, byte_level(), 0)


def test_windows_that_skip_reach_the_end_of_the_text() -> None:
    (document,) = windows([Text("t", "0" * 64, list(range(64)))], 64, 1)
    placed = skipping_to(1000, document, 8, 0)
    assert placed.token_ids == document.token_ids
    assert placed.positions is not None
    assert [len(positions) for positions in placed.positions] == [8] * 8
    for positions in placed.positions:
        assert positions[0] == 0
        assert all(after > before for before, after in itertools.pairwise(positions))
    assert 900 < max(max(positions) for positions in placed.positions) < 1000
    assert placed == skipping_to(1000, document, 8, 0) != skipping_to(1000, document, 8, 1)
