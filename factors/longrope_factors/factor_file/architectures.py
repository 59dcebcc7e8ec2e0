"""An architecture's defaults for fields that a config.json leaves out.

For example, LLaMA2-7B's config.json has no rope_theta; the default in transformers' LlamaConfig is
10,000. Importing transformers takes seconds, so its defaults are in a table beside this file, which
`scripts/architectures` makes.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import length

TABLE = "architectures.json"
FIELDS = (
    "rope_theta",
    "partial_rotary_factor",
    "rope_parameters",
    "head_dim",
    "qk_rope_head_dim",
    "num_key_value_heads",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "attention_bias",
    "mlp_bias",
)
# Model types that transformers has no class for, with the defaults of their own code.
_ELSEWHERE: dict[str, dict[str, Any]] = {
    "minicpm": {
        "architecture": "MiniCPMForCausalLM",
        "fields": {
            "rope_theta": 10000.0,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
    },
}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config`, completed with the defaults of transformers' class for its model type.

    Fields have the names in FIELDS, even where the class uses other names. A null rope_theta or
    rope_parameters takes the default; any other null field stays null, because its value follows
    from other fields (num_key_value_heads from num_attention_heads). A type that transformers does
    not know has no defaults. Raises FactorFileError for a type whose layers rotate differently.
    """
    row = _row(config)
    if row.get("layers_differ"):
        raise FactorFileError(
            f"The model's config has model_type {shown(config.get('model_type'))}, whose layers "
            "rotate differently; one set of factors needs one rotation for all layers."
        )
    said = {field: value for field, value in config.items() if not _says_nothing(field, value)}
    values = {**row.get("fields", {}), **said}
    for field, name in row.get("names", {}).items():
        if config.get(name) is not None:
            values[field] = config[name]
            if name == "rotary_dim":
                head_dim = length(values.get("head_dim"), "head_dim")
                values[field] = length(config[name], name) / head_dim
    return values


def _says_nothing(field: str, value: Any) -> bool:
    return value is None and field in ("rope_theta", "rope_parameters")


def _row(config: Mapping[str, Any]) -> dict[str, Any]:
    model_type = config.get("model_type")
    if model_type is None:
        named = config.get("architectures")
        architecture = named[0] if isinstance(named, list) and named else None
        model_type = _types().get(str(architecture))
    rows = _table()
    row = rows.get(str(model_type), {})
    return rows[row["text"]] if "text" in row else row


@lru_cache
def _table() -> dict[str, dict[str, Any]]:
    rows = json.loads(files(__package__).joinpath(TABLE).read_text(encoding="utf-8"))
    return {**rows, **_ELSEWHERE}


@lru_cache
def _types() -> dict[str, str]:
    """The model type of each architecture, for configs that do not state their type."""
    return {row["architecture"]: name for name, row in _table().items() if "architecture" in row}
