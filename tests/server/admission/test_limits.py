import pytest
from longrope_server.front_end.admission.estimate import tokens_in
from longrope_server.front_end.admission.limits import Limit, Limits
from pydantic import ValidationError

SETS = [8192, 16384, 32768]


def test_by_default_every_class_but_the_first_may_fill_half_of_the_kv_cache() -> None:
    limits = Limits().completed(SETS, max_num_seqs=64, kv_tokens=100_000)
    assert limits.in_flight == 128
    assert limits.queued == 1024
    assert limits.tokens is None
    assert limits.classes == {
        8192: Limit(),
        16384: Limit(tokens=50_000),
        32768: Limit(tokens=50_000),
    }


def test_what_the_operator_said_is_kept() -> None:
    given = Limits.model_validate({"in_flight": 5, "classes": {"100000": {"queued": 0}, "10": {}}})
    limits = given.completed(SETS, max_num_seqs=64, kv_tokens=None)
    assert limits.in_flight == 5
    assert limits.classes == {10: Limit(), 32768: Limit(queued=0)}
    assert list(Limits.model_validate({"classes": {"9": {}, "3": {}}}).classes) == [3, 9]


def test_a_prompt_has_the_smallest_class_that_covers_it() -> None:
    limits = Limits().completed(SETS, 1, None)
    classes = [limits.class_of(tokens) for tokens in (0, 8192, 8193, 32768, 10**9)]
    assert classes == [8192, 8192, 16384, 32768, 32768]


@pytest.mark.parametrize(
    "given",
    [
        {"in_flight": 0},
        {"queued": -1},
        {"tokens": "many"},
        {"running": 1},
        {"classes": {"0": {}}},
        {"classes": {"short": {}}},
        {"classes": {"10": {"running": 1}}},
        {"queue_seconds": 0},
    ],
)
def test_what_cannot_be_a_limit_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(given)


def test_token_ids_are_counted_and_text_is_estimated() -> None:
    ids = ", ".join(str(n % 50_000) for n in range(100_000))
    assert abs(tokens_in([b'{"prompt": [', ids.encode(), b"]}"]) - 100_000) < 10
    text = b"It is a truth universally acknowledged, " * 1000
    assert tokens_in([text]) == len(text) // 4 + 1
    assert tokens_in([]) == 1
