"""Which factor set serves a sequence."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from longrope_factors.factor_file import hf, hub
from longrope_factors.factor_file.schema import FactorFile

if TYPE_CHECKING:
    from vllm.config import VllmConfig

Policy = Literal["length", "reserve"]

SETS = "longrope_sets"  # in `additional_config`: the digest of what the engine was configured with


@dataclass(frozen=True)
class Selection:
    """The rule by which a request gets its set.

    policy `length`: the smallest set that covers the sequence as it is; a sequence that outgrows
    its set is promoted. `reserve`: the smallest that covers prompt and max_tokens, so that
    promotion never happens. path: that of the factor file; None for a config's own two lists.
    """

    factor_file: FactorFile
    policy: Policy
    max_model_len: int
    path: Path | None = None

    @classmethod
    def from_vllm_config(cls, vllm_config: "VllmConfig") -> "Selection | None":
        """The selection of a longrope model; None for every other model.

        Raises FactorFileError, a sentence, for a factor file or lists that cannot be served, and
        ValueError for an unknown policy or for other sets than the engine was configured with.
        """
        model_config = vllm_config.model_config
        if model_config is None:
            return None
        config = model_config.hf_text_config.to_dict()
        if not hf.is_longrope(config):
            return None
        # The config of a model with images has its text part, and names the architecture.
        config["architectures"] = model_config.hf_config.architectures
        config.setdefault(
            "longrope_factors", getattr(model_config.hf_config, "longrope_factors", None)
        )
        additional = vllm_config.additional_config or {}
        policy = additional.get("longrope_selection", "length")
        if policy not in get_args(Policy):
            raise ValueError(
                f"longrope_selection is {policy!r}; it must be one of "
                f"{', '.join(map(repr, get_args(Policy)))}."
            )
        named = hf.named_file(config)
        base_dir = hub.base_dir(model_config.model, named, model_config.revision)
        factor_file = hf.from_config(config, base_dir)
        path = None if named is None else base_dir / named
        selection = cls(factor_file, policy, model_config.max_model_len, path)
        if additional.get(SETS, selection.digest) != selection.digest:
            raise ValueError(
                f"{path} has other factor sets than the engine was configured with: leave the file "
                "as it is while the engine starts, and give every machine of the engine the same."
            )
        return selection

    @property
    def digest(self) -> str:
        """What identifies all sets together with their limits."""
        content = [(s.max_length, s.fingerprint) for s in self.factor_file.sets]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def limit(self, index: int) -> int:
        """The longest sequence, in tokens, that set `index` serves."""
        return self.factor_file.sets[index].max_length

    def fingerprint(self, index: int) -> str:
        """What identifies set `index` in salts, and to another engine."""
        return self.factor_file.sets[index].fingerprint

    def start(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """The index of the set that a request starts with."""
        if self.policy == "length":
            return self.covering(prompt_tokens)
        room = self.max_model_len - prompt_tokens
        reserved = room if max_tokens is None else min(max_tokens, room)
        return self.covering(prompt_tokens + reserved)

    def start_session(self) -> int:
        """The index of a streaming session's set: it grows by later prompts of unknown length."""
        return self.covering(self.max_model_len)

    def finish(self, start: int, total_tokens: int) -> int:
        """The index of the set that computed the last token of prompt + output.

        The last token was sampled and never fed back, so it takes no place.
        """
        return max(start, self.covering(total_tokens - 1))

    def adapted(self, prompt_tokens: int, max_tokens: int | None, is_session: bool) -> int | None:
        """The index of the first set with an adapter that a request may reach; None without one."""
        start = self.start_session() if is_session else self.start(prompt_tokens, max_tokens)
        room = self.max_model_len - prompt_tokens
        longest = prompt_tokens + (room if max_tokens is None else min(max_tokens, room))
        reached = range(start, max(start, self.covering(longest - 1)) + 1)
        return next((i for i in reached if self.factor_file.sets[i].adapter is not None), None)

    def covering(self, tokens: int) -> int:
        """The index of the smallest set that covers a sequence of `tokens`."""
        return self.factor_file.select(max(tokens, 1))
