"""The salts that keep the KV blocks of different factor sets apart."""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

PREFIX = "longrope-"


@dataclass(frozen=True)
class Salts:
    """Gives each request the salt of its block hashes.

    Requests of the first set have the caller's own salt, or none, so that their block hashes are
    stock vLLM's: a router that knows only the tokens finds them. Those of every other set have a
    salt of ours.

    fingerprints: of the sets, in order. first_set_is_salted: the first set gets a salt of ours as
    well. Needed where other engines read the same KV store, because they may rotate the same
    tokens in another way.
    """

    fingerprints: tuple[str, ...]
    first_set_is_salted: bool

    def salt(self, index: int, callers: str | None, adapter: "LoRARequest | None") -> str | None:
        """The salt of a request of set `index`; two requests share it only if all three are equal.

        It is the caller's own salt, or else 73 characters: the prefix and a SHA-256 in hexadecimal,
        which every KV store accepts (LMCache: at most 128, none of `@`, `/`, `\\` and NUL).

        adapter: the one that the caller names. vLLM's block hashes contain it, but LMCache's keys
        have no other place for it. callers: a salt that begins with our prefix is hashed under
        the first set too, so that a caller who sends a salt of ours reaches no other set's blocks.
        """
        is_ours = callers is not None and callers.startswith(PREFIX)
        if index == 0 and not self.first_set_is_salted and not is_ours:
            return callers
        named = adapter and [adapter.lora_name, adapter.lora_path]
        content = json.dumps([self.fingerprints[index], callers or "", named])
        return PREFIX + hashlib.sha256(content.encode()).hexdigest()
