"""What a field of a config is where the config.json leaves it to its architecture.

LLaMA2-7B's config.json, for one, has no rope_theta: 10,000 is what transformers' LlamaConfig has.
Importing that takes seconds, so its values stand in a table beside this file, which
`architecture_table` makes.
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
# Types that transformers has no class for: their own configuration code's values.
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
    """`config` with the fields that it leaves out, as transformers' class of its type has them.

    Fields are called as in FIELDS, whatever the class calls them. A field that is null stays null,
    but for those of the rotation: there, as where no class has a value, it follows from others (as
    many KV heads as heads). Of a type that transformers does not know, what the config says is all
    there is. Raises FactorFileError for a type whose layers do not all rotate alike.
    """
    row = _row(config)
    if row.get("layers_differ"):
        raise FactorFileError(
            f"The model's config has model_type {shown(config.get('model_type'))}, whose layers "
            "rotate differently; one set of factors needs one rotation for all layers."
        )
    said = {field: value for field, value in config.items() if not _says_nothing(field, value)}
    found = {**row.get("fields", {}), **said}
    for field, name in row.get("names", {}).items():
        if config.get(name) is not None:
            found[field] = config[name]
            if name == "rotary_dim":
                head_dim = length(found.get("head_dim"), "head_dim")
                found[field] = length(config[name], name) / head_dim
    return found


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
    """The model type of each architecture's config, for configs that do not say it."""
    return {row["architecture"]: name for name, row in _table().items() if "architecture" in row}
