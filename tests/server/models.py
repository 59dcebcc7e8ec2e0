"""Small model directories, factor files and a selection, for tests that need no engine."""

import json
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import schema
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity, Provenance

ORIGINAL = 64

IDENTITY = ModelIdentity(
    name="tiny",
    architecture="LlamaForCausalLM",
    rotary_dim=8,
    rope_theta=10000.0,
    original_max_position_embeddings=ORIGINAL,
)


def config(**changes: Any) -> dict[str, Any]:
    """The config of a tiny Llama, without weights."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "num_attention_heads": 4,
        "head_dim": 8,
        "max_position_embeddings": ORIGINAL,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        **changes,
    }


def longrope_config() -> dict[str, Any]:
    """The same with short and long lists of its own, to four times its original length."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0, 1.0, 1.0, 1.0],
        "long_factor": [1.0, 1.5, 2.0, 4.0],
    }
    return config(
        max_position_embeddings=4 * ORIGINAL,
        original_max_position_embeddings=ORIGINAL,
        rope_parameters=rope,
    )


def write_model(directory: Path, content: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(content))
    return directory


def factor_file(*limits: int, identity: ModelIdentity = IDENTITY) -> FactorFile:
    provenance = Provenance(
        method="longrope", source="a test", date="2026-01-01", tool_version="0.1.0"
    )
    sets = [
        FactorSet(
            max_length=limit,
            factors=(1.0 + index,) * (identity.rotary_dim // 2),
            start_tokens=0,
            attention_factor=1.0,
            provenance=provenance,
        )
        for index, limit in enumerate(limits)
    ]
    return schema.build(identity, sets)


class Selection:
    """Sets of these limits; started with by prompt, finished by the last token fed back."""

    def __init__(self, *limits: int) -> None:
        self.limits = limits

    def start(self, prompt_tokens: int, max_tokens: int | None) -> int:
        return self._covering(prompt_tokens)

    def start_session(self) -> int:
        return len(self.limits) - 1

    def finish(self, start: int, total_tokens: int) -> int:
        return max(start, self._covering(total_tokens - 1))

    def limit(self, index: int) -> int:
        return self.limits[index]

    def _covering(self, tokens: int) -> int:
        return next(index for index, limit in enumerate(self.limits) if tokens <= limit)
