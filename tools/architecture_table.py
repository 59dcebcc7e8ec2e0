"""The table of `architectures`, read off the configuration classes of the installed transformers.

`scripts/architectures` writes it again, after a change of transformers' release.
"""

import json
from pathlib import Path
from typing import Any

import typer
from longrope_factors.factor_file import architectures
from longrope_factors.factor_file.architectures import FIELDS

FILE = Path(architectures.__file__).with_name(architectures.TABLE)

# Names that a class may read with its own code, beside those in its attribute_map: the field that
# each means, and a value to try it with.
_OTHER_NAMES: dict[str, tuple[str, float]] = {
    "rotary_emb_base": ("rope_theta", 777.0),
    "rotary_pct": ("partial_rotary_factor", 0.75),
    "rotary_dim": ("partial_rotary_factor", 16),
}
_NEEDED = ("vocab_size", "hidden_size", "num_attention_heads", "max_position_embeddings")


def table() -> dict[str, dict[str, Any]]:
    """One row for each model type with a text decoder that rotates, ascending by name.

    `fields` are the values that a config of that type has if it does not state them; a field that
    follows from others (as many KV heads as heads, hidden size over heads) is left out. `names` has
    the class's name for a field, if it is another. `layers_differ` marks a type whose
    layers do not all rotate alike. A multi-modal type's row names its `text` type. A type whose
    head dimension follows otherwise (Zamba2's) has no row.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    rows: dict[str, dict[str, Any]] = {}
    classes: dict[str, Any] = {}
    for model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        text = CONFIG_MAPPING[model_type].sub_configs.get("text_config")
        if getattr(text, "model_type", None) and text.model_type in CONFIG_MAPPING:
            rows[model_type] = {"text": text.model_type}
            classes[text.model_type] = text
    for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        classes[model_type] = CONFIG_MAPPING[model_type]
    for model_type, config_class in classes.items():
        row = _row(config_class)
        if row is not None:
            architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
            if isinstance(architecture, str):
                row = {"architecture": architecture, **row}
            rows[model_type] = row
    kept = {name: row for name, row in rows.items() if row.get("text", name) in rows}
    return dict(sorted(kept.items()))


def dumps() -> str:
    """The table's text: one row a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in table().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _row(config_class: Any) -> dict[str, Any] | None:
    if config_class.has_no_defaults_at_init:
        return None
    found = config_class().to_dict()
    rope = dict(found.get("rope_parameters") or {})
    names = {ours: theirs for ours, theirs in config_class.attribute_map.items() if ours in FIELDS}
    values = {field: found.get(names.get(field, field)) for field in FIELDS}
    if not rope or any(values[field] is None for field in _NEEDED):
        return None
    if any(isinstance(value, dict) for value in rope.values()):
        return {"layers_differ": True}
    for theirs, (ours, tried) in _OTHER_NAMES.items():
        changed = config_class(**{theirs: tried}).to_dict()["rope_parameters"]
        if changed.get(ours) != rope.get(ours):
            names[ours] = theirs
    scaled = rope if rope["rope_type"] != "default" else None
    values |= {
        "rope_theta": rope["rope_theta"],
        "partial_rotary_factor": rope.get("partial_rotary_factor"),
        "rope_parameters": scaled,
    }
    # Without this field, the class makes no window of sliding_window.
    if "use_sliding_window" in found:
        values["sliding_window"] = getattr(config_class, "sliding_window", None)
    twice = _with_twice_the_heads(config_class, values, names)
    for field in ("head_dim", "num_key_value_heads"):
        if twice.get(names.get(field, field)) != values[field]:
            if field == "head_dim" and values[field] != _usual_head_dim(values):
                return None
            values[field] = None
    fields = {field: value for field, value in values.items() if value not in (None, False)}
    return {"fields": fields, **({"names": names} if names else {})}


def _usual_head_dim(values: dict[str, Any]) -> int:
    size: int = values["hidden_size"] // values["num_attention_heads"]
    return size


def _with_twice_the_heads(
    config_class: Any, values: dict[str, Any], names: dict[str, str]
) -> dict[str, Any]:
    """The class's fields where there are twice as many heads of twice the dimension."""
    changed = {
        names.get("num_attention_heads", "num_attention_heads"): 2 * values["num_attention_heads"],
        names.get("hidden_size", "hidden_size"): 4 * values["hidden_size"],
    }
    twice: dict[str, Any] = config_class(**changed).to_dict()
    return twice


def main() -> None:
    """Write the table into the package."""
    FILE.write_text(dumps(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
