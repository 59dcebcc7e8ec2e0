"""A small valid factor file and config, as JSON documents that tests spoil."""

import json
import math
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import methods
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.schema import ModelIdentity

IDENTITY = ModelIdentity(
    name="example",
    architecture="LlamaForCausalLM",
    rotary_dim=64,
    rope_theta=100000.0,
    original_max_position_embeddings=8192,
)
ADAPTER = {
    "folder": "adapter",
    "sha256": "a" * 64,
    "rank": 8,
    "scale": 2.0,
    "base_sha256": "b" * 64,
}
BASE = Base(IDENTITY, methods.original(IDENTITY, 1.0))


def provenance(method: str = "pi") -> dict[str, Any]:
    return {
        "method": method,
        "source": "a test",
        "date": "2026-11-23",
        "tool_version": "0.1.0",
    }


def document() -> dict[str, Any]:
    """Three sets, 8192, 16384 and 32768, whose factors are 1, 2 and 4."""
    return {
        "format": "longrope-factors/1",
        "model": IDENTITY.model_dump(),
        "sets": [
            {
                "max_length": 8192 * ratio,
                "factors": [float(ratio)] * 32,
                "start_tokens": 0,
                "attention_factor": 1.0,
                "provenance": provenance("original" if ratio == 1 else "pi"),
            }
            for ratio in (1, 2, 4)
        ],
    }


def llama_config(**changes: Any) -> dict[str, Any]:
    """The config.json of a plain Llama that IDENTITY describes."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 576,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "vocab_size": 128,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        **changes,
    }


def longrope_config(rope: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A two-list Phi-3: short factors just above 1, long ones from 1 to 60, window 4096 x 32."""
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "hidden_size": 3072,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "num_hidden_layers": 2,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0 + pair / 100 for pair in range(48)],
            "long_factor": [math.exp(pair / 11.5) for pair in range(48)],
            **(rope or {}),
        },
        **changes,
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def model_directory(path: Path, config: dict[str, Any] | None = None) -> Path:
    path.mkdir()
    write(path / "config.json", llama_config() if config is None else config)
    return path
