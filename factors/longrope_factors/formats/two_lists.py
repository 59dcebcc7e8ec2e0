"""Factor files as two lists: what this form holds, what it loses, and Hugging Face's version of it.

A Hugging Face config is read by transformers' `_compute_longrope_parameters` and by vLLM's
`Phi3LongRoPEScaledRotaryEmbedding`. Both use the short list up to the original length and the long
list beyond it. transformers decides by the length of its input, stock vLLM by max_model_len.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longrope_factors.factor_file import hf
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.factor_file.schema import FactorFile, FactorSet


def hf_config(
    config: Mapping[str, Any], factor_file: FactorFile, length: int | None = None
) -> tuple[dict[str, Any], list[str]]:
    """`config` (a parsed config.json) with the rotation of `factor_file`, and what was lost.

    The short list is the set of the original length, the long list the last set or the one that
    covers `length` tokens. transformers knows one attention factor for both lists. vLLM computes
    its own from max_position_embeddings unless short_mscale and long_mscale are given, so these two
    are added only if vLLM would compute another value, or if the model's class asks for them. A
    `longrope_factors` in `config` is dropped, because the result does not need the factor file.
    Each sentence names one thing that was lost. Raises FactorFileError if the file was made for
    another model, and UsageError if no set covers `length`.
    """
    name = factor_file.model.name
    # Without the factor file that the config names, its own two lists count.
    lists = {key: value for key, value in config.items() if key != "longrope_factors"}
    hf.base(lists).check(factor_file, f"The factors of {name}")
    original = factor_file.model.original_max_position_embeddings
    short_set, long_set = two_sets(factor_file, length)
    window = long_set.max_length
    rope: dict[str, Any] = {
        "rope_type": "longrope",
        "rope_theta": factor_file.model.rope_theta,
        "short_factor": list(short_set.factors),
        "long_factor": list(long_set.factors),
        "original_max_position_embeddings": original,
        "factor": max(1.0, window / original),  # transformers warns if it is below 1
        "attention_factor": long_set.attention_factor,
    }
    mscales = (short_set.attention_factor, long_set.attention_factor)
    computed = (authors_attention_factor(window, original),) * 2
    if mscales != computed or hf.needs_mscales(config):
        rope["short_mscale"], rope["long_mscale"] = mscales
    rope.update(hf.layout(config))
    fields = {
        "rope_parameters": rope,
        "max_position_embeddings": window,
        # Repeated here for Phi-3 in transformers and for vLLM's default max_model_len.
        "original_max_position_embeddings": original,
    }
    lost = lost_by_two_lists(factor_file, (short_set, long_set), "A Hugging Face config")
    if mscales[0] != mscales[1]:
        lost.append(
            f"transformers knows one attention factor, the long list's {mscales[1]!r}; the short "
            f"list's {mscales[0]!r} stands in short_mscale, which vLLM reads."
        )
    return _with_fields(config, fields), lost


def write_config(config: Mapping[str, Any], path: Path) -> None:
    """Write a config.json in one step; raises FactorFileError if it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def authors_attention_factor(length: int, original: int) -> float:
    """sqrt(1 + ln s / ln L_original) with s = length / L_original, and 1 for s <= 1.

    The LongRoPE authors' loader, transformers and vLLM compute it unless the config says otherwise.
    This value equals that of the latter two to the last bit.
    """
    return hf.attention_factor(length / original, original)


def two_sets(factor_file: FactorFile, length: int | None = None) -> tuple[FactorSet, FactorSet]:
    """The sets for a form's short and long lists; the same set twice if the file has no other.

    The long one is the last set or the one that covers `length` tokens. The short one is the set of
    the original length, or of the long one's length if that is less. Raises UsageError if no set
    covers `length`.
    """
    original = factor_file.model.original_max_position_embeddings
    sets = factor_file.sets
    long_set = sets[-1] if length is None else sets[factor_file.select(length)]
    return sets[factor_file.select(min(original, long_set.max_length))], long_set


def lost_by_two_lists(
    factor_file: FactorFile, pair: tuple[FactorSet, FactorSet], form: str
) -> list[str]:
    """What `factor_file` loses in a form of two lists without start tokens, in sentences.

    `pair` is the result of `two_sets`, `form` the subject of the sentences, such as 'A GGUF file'.
    """
    original = factor_file.model.original_max_position_embeddings
    short_set, long_set = pair
    lost = []
    dropped = [
        str(factor_set.max_length) for factor_set in factor_file.sets if factor_set not in pair
    ]
    if dropped:
        lost.append(f"{form} holds two sets: of max_length {', '.join(dropped)} none is left.")
    if short_set is long_set and long_set.max_length != original:
        lost.append(
            f"{form} has a short list up to the original length, {original}, and a long one "
            f"beyond: both are the set of {long_set.max_length}."
        )
    elif short_set.max_length != original:
        lost.append(
            f"{form} ends its short list at the original length, {original}, "
            f"not at the set's max_length, {short_set.max_length}."
        )
    for factor_set in factor_file.sets:
        if factor_set in pair and factor_set.start_tokens:
            lost.append(
                f"{form} has no start tokens: the first {factor_set.start_tokens} of the set of "
                f"{factor_set.max_length} are rotated like the others."
            )
        if factor_set in pair and factor_set.adapter is not None:
            lost.append(
                f"{form} names no adapter: the set of {factor_set.max_length} is for weights with "
                f"the one in {factor_set.adapter.folder} merged into them."
            )
    return [*lost, f"{form} has no place for provenance: where the factors came from is left out."]


def _with_fields(config: Mapping[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    # In transformers, an old rope_scaling takes precedence over rope_parameters.
    replaced = ("rope_scaling", "longrope_factors")
    kept = {key: value for key, value in config.items() if key not in replaced}
    if isinstance(text := kept.get("text_config"), Mapping):
        return {**kept, "text_config": _with_fields(text, fields)}
    return {**kept, **fields}
