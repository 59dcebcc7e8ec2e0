import pytest
from longrope_server.front_end.key_limits import priority
from longrope_server.keys.key_file import Key


@pytest.mark.parametrize(
    ("keys", "asked", "given"),
    [(0, 0, 0), (5, 0, 5), (5, 3, 5), (5, 7, 7), (-5, 0, -5), (-5, None, -5), (-5, -9, -5)],
)
def test_no_request_is_more_urgent_than_its_key(keys: int, asked: int | None, given: int) -> None:
    assert priority(Key("a", b"", priority=keys), asked) == given
