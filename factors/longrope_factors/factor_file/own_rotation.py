"""The rotation of a model whose config scales it already, as factors and a window.

Computed in float64 as in transformers' `modeling_rope_utils` (ROPE_INIT_FUNCTIONS).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import attention_factor, factor, length, number
from longrope_factors.factor_file.methods import Rescaling, yarn_factors

SECTIONS = ("mrope_section", "mrope_interleaved")
"""Which of a token's several positions each pair of dimensions rotates by; factors change none."""

_EVERY = {
    *("rope_type", "type", "rope_theta", "partial_rotary_factor", "max_position_embeddings"),
    *SECTIONS,
}
_ORIGINAL = "original_max_position_embeddings"
# The fields that each type's rotation depends on. Any other field would be lost in a factor set.
_FIELDS = {
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", _ORIGINAL},
    "yarn": {
        "factor",
        _ORIGINAL,
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "truncate",
        "mscale",
        "mscale_all_dim",
        "finetuned",  # in the YaRN authors' configs, without effect
    },
}


class Pairs(NamedTuple):
    """A model's plain RoPE: how many numbers of a head rotate, and theta."""

    rotary_dim: int
    theta: float


def is_scaled(rope_type: str) -> bool:
    """Whether `rope_type` scales the rotation by a vector of factors."""
    return rope_type in _FIELDS


def place(text: Mapping[str, Any]) -> str:
    """The field of the config that has its rope parameters; an older name takes precedence."""
    return "rope_scaling" if text.get("rope_scaling") else "rope_parameters"


def check_attention(text: Mapping[str, Any], rope: Mapping[str, Any]) -> None:
    """Raise FactorFileError for an attention whose positions are not supported.

    These are other positions than a token's own, and four positions for each token (XD-RoPE).
    """
    if rope.get("xdrope_section") or text.get("xdrope_section"):
        raise FactorFileError(
            "The model's config has xdrope_section, a rotation by four positions at once, which a "
            "vector of factors cannot express here: a text model's config has none."
        )
    if not (chunked := text.get("dual_chunk_attention_config")):
        return
    trained = chunked.get(_ORIGINAL) if isinstance(chunked, Mapping) else None
    raise FactorFileError(
        "The model's config has dual_chunk_attention_config, by which a token's position depends "
        "on the chunk of the token that looks at it, and no vector of factors says that: take it "
        f"out and set max_position_embeddings to {trained or 'the window of its training'}, and "
        "the plain rotation is extended."
    )


def check(rope: Mapping[str, Any], rope_type: str, text: Mapping[str, Any]) -> None:
    """Raise FactorFileError unless the rope parameters are one vector of factors.

    `text` is the config that they come from. Plain RoPE and the types of `is_scaled` are accepted,
    unless the config says more than a factor set can express.
    """
    where = place(text)
    if rope_type != "default" and not is_scaled(rope_type):
        raise FactorFileError(
            f"The model's config has rope_type {shown(rope_type)}, whose rotation is not one "
            "vector of factors: to extend the plain rotation, remove rope_type and its fields "
            f"from {where}."
        )
    said = {name for name, value in rope.items() if value is not None}
    if is_scaled(rope_type) and (more := said - _FIELDS[rope_type] - _EVERY):
        raise FactorFileError(
            f"The model's config has {where}.{min(more)}, which a factor set cannot express: "
            f"remove it, or remove rope_type {shown(rope_type)} and its fields."
        )
    if rope.get("mscale_all_dim") and text.get("qk_rope_head_dim"):
        raise FactorFileError(
            f"The model's config has {where}.mscale_all_dim, by which latent attention is scaled "
            "apart from its rotation: remove it, and rope_type and its fields."
        )


def original_without(
    rope: Mapping[str, Any], rope_type: str, text: Mapping[str, Any]
) -> int | None:
    """The window before scaling, in tokens, where the weights can be served without the scaling.

    This is known of yarn only, which people put into the configs of models that were never trained
    with it (Qwen's documentation tells how). None for the other types, for a yarn whose config says
    that the model was fine-tuned with it, and for one whose window it does not state.
    """
    if rope_type != "yarn" or rope.get("finetuned"):
        return None
    stated = any(said.get(_ORIGINAL) is not None for said in (text, rope))
    return _original(rope, text) if stated else None


def window(rope: Mapping[str, Any], rope_type: str, text: Mapping[str, Any]) -> int:
    """The longest sequence, in tokens, that a scaled model ships for.

    Except for yarn, it is derived as in vLLM: linear configs state the length before scaling,
    llama3 configs the length after it. Some yarn configs state the first (Qwen2.5's 32,768 with
    factor 4 means 131,072 tokens, which vLLM before 0.32 served), others the second (gpt-oss states
    its 131,072). So for yarn it is the greater of max_position_embeddings and factor times the
    original length.
    """
    stated = length(text.get("max_position_embeddings"), "max_position_embeddings", least=2)
    if rope_type == "llama3":
        return stated
    if rope_type == "linear":
        scaled = int(stated * _factor(rope))
    else:
        original = _original(rope, text)
        scaled = max(stated, int(original * _yarn_factor(rope, text, original)))
    return length(scaled, "max_position_embeddings times rope_parameters.factor", least=2)


def factors(
    rope: Mapping[str, Any], rope_type: str, text: Mapping[str, Any], pairs: Pairs
) -> Rescaling:
    """The factors of a scaled model, relative to plain RoPE at its theta, and attention factor.

    Raises FactorFileError naming a field that is missing or unusable.
    """
    match rope_type:
        case "linear":
            rescaling = Rescaling((_factor(rope),) * (pairs.rotary_dim // 2), 1.0)
        case "llama3":
            rescaling = Rescaling(_llama3(rope, text, pairs), 1.0)
        case _:
            rescaling = _yarn(rope, text, pairs)
    name = f"the rotation of rope_type {rope_type}"
    return Rescaling(
        tuple(
            factor(value, f"{name}, factors[{pair}]")
            for pair, value in enumerate(rescaling.factors)
        ),
        attention_factor(rescaling.attention_factor, f"{name}, attention factor"),
    )


def _llama3(rope: Mapping[str, Any], text: Mapping[str, Any], pairs: Pairs) -> tuple[float, ...]:
    """Llama 3.1's factors: 1 for short waves, `factor` for long ones, a smooth ramp in between."""
    ratio, original = _factor(rope), _original(rope, text)
    low = number(rope.get("low_freq_factor"), "rope_parameters.low_freq_factor")
    high = number(rope.get("high_freq_factor"), "rope_parameters.high_freq_factor")
    if not 0 < low < high:
        raise FactorFileError(
            f"The model's config has rope_parameters.low_freq_factor {low:g} and high_freq_factor "
            f"{high:g}; both should be above 0 and the second above the first."
        )
    rescaled = []
    for pair in range(pairs.rotary_dim // 2):
        wavelength = 2 * math.pi * pairs.theta ** (2 * pair / pairs.rotary_dim)
        waves = original / wavelength
        if waves < low:
            rescaled.append(ratio)
        elif waves > high:
            rescaled.append(1.0)
        else:
            smooth = (waves - low) / (high - low)
            rescaled.append(1.0 / ((1 - smooth) / ratio + smooth))
    return tuple(rescaled)


def _yarn(rope: Mapping[str, Any], text: Mapping[str, Any], pairs: Pairs) -> Rescaling:
    original = _original(rope, text)
    ratio = _yarn_factor(rope, text, original)
    turns = _or(rope, "beta_fast", 32.0, factor), _or(rope, "beta_slow", 1.0, factor)
    truncate = rope.get("truncate", True)
    if not isinstance(truncate, bool):
        raise FactorFileError(
            f"The model's config has rope_parameters.truncate {shown(truncate)}; it should be true "
            "or false."
        )
    stretched = yarn_factors(*pairs, original, ratio, turns, truncate)
    if rope.get("attention_factor") is not None:
        return Rescaling(
            stretched, number(rope["attention_factor"], "rope_parameters.attention_factor")
        )
    mscale, of_all = (
        _or(rope, name, 0.0, attention_factor) for name in ("mscale", "mscale_all_dim")
    )
    if mscale and of_all:
        return Rescaling(stretched, _mscale(ratio, mscale) / _mscale(ratio, of_all))
    return Rescaling(stretched, _mscale(ratio, 1.0))


def _mscale(ratio: float, scale: float) -> float:
    return 1.0 if ratio <= 1 else 0.1 * scale * math.log(ratio) + 1.0


def _factor(rope: Mapping[str, Any]) -> float:
    return factor(rope.get("factor"), "rope_parameters.factor")


def _yarn_factor(rope: Mapping[str, Any], text: Mapping[str, Any], original: int) -> float:
    if rope.get("factor") is not None:
        return _factor(rope)
    stated = length(text.get("max_position_embeddings"), "max_position_embeddings", least=2)
    return stated / original


def _original(rope: Mapping[str, Any], text: Mapping[str, Any]) -> int:
    """The window before scaling; transformers prefers the field outside rope_parameters."""
    for said in (text, rope):
        if said.get(_ORIGINAL) is not None:
            return length(said[_ORIGINAL], _ORIGINAL, least=2)
    return length(text.get("max_position_embeddings"), "max_position_embeddings", least=2)


def _or(
    rope: Mapping[str, Any],
    field: str,
    otherwise: float,
    checked: Callable[[Any, str], float],
) -> float:
    value = rope.get(field)
    return checked(value, f"rope_parameters.{field}") if value else otherwise
