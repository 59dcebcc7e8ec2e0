"""Which salt a request's block hashes get: stock vLLM's own under the first set, ours elsewhere."""

from types import SimpleNamespace
from typing import Any

import pytest
from longrope_plugin.salts import PREFIX, Salts

INSIDE = Salts(("aaaa", "bbbb", "cccc"), first_set_is_salted=False)
SHARED = Salts(("aaaa", "bbbb", "cccc"), first_set_is_salted=True)
CALLERS = [None, "alice", "bob", '["bbbb", null]', f"{PREFIX}alice", "é\ud800"]
ADAPTERS: list[Any] = [None, *(SimpleNamespace(lora_name=n, lora_path="/p") for n in "xy")]


def is_legal_for_lmcache(salt: str) -> bool:
    """LMCache's rule (`lmcache/v1/distributed/api.py`, ObjectKey)."""
    return len(salt) <= 128 and not set("@/\\\x00") & set(salt)


@pytest.mark.parametrize("caller", [None, "", "alice", '["aaaa", null]'])
def test_the_first_set_keeps_the_callers_salt(caller: str | None) -> None:
    assert INSIDE.salt(0, caller, None) == caller


@pytest.mark.parametrize("salts", [INSIDE, SHARED], ids=["inside the engine", "shared"])
def test_no_two_sets_callers_or_adapters_share_a_salt(salts: Salts) -> None:
    seen = [
        salts.salt(index, caller, adapter)
        for index in (range(3) if salts is SHARED else (1, 2))
        for caller in CALLERS
        for adapter in ADAPTERS
    ]
    assert len(set(seen)) == len(seen)


def test_a_caller_cannot_send_another_sets_salt() -> None:
    ours = {
        salt for index in (1, 2) for caller in CALLERS if (salt := INSIDE.salt(index, caller, None))
    }
    assert not ours & {INSIDE.salt(index, salt, None) for salt in ours for index in range(3)}


def test_an_empty_salt_is_none_as_in_vllm() -> None:
    assert INSIDE.salt(1, "", None) == INSIDE.salt(1, None, None)


@pytest.mark.parametrize("caller", [*CALLERS, "a@b/c\\d\0", "long" * 1000])
def test_salts_in_a_shared_store_are_legal_there(caller: str | None) -> None:
    for index in range(3):
        salt = SHARED.salt(index, caller, None)
        assert salt is not None
        assert is_legal_for_lmcache(salt)
