"""Hugging Face configs: a model's identity, its two lists of factors, and overrides for vLLM.

A config here is a mapping: a parsed config.json or transformers' `config.to_dict()`. Its fields
mean what they mean in transformers' `modeling_rope_utils`.
"""

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longrope_factors import __version__
from longrope_factors.factor_file import (
    architectures,
    bounds,
    hf_fields,
    methods,
    own_rotation,
    schema,
    trained_windows,
)
from longrope_factors.factor_file.base import Base, Scaling
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files import strict_json, text_files
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import factor_list, length, number
from longrope_factors.factor_file.methods import Rescaling
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity, Provenance

Config = Mapping[str, Any]

_LONGROPE = ("longrope", "su")
_NAMELESS = "model"
# Phi-3.5-MoE's configuration class refuses a longrope without short_mscale and long_mscale.
_WITH_MSCALES = ("PhiMoEForCausalLM", "PhimoeForCausalLM")


def read_config(model_dir: Path | str) -> dict[str, Any]:
    """Read the config.json of a model directory.

    Raises FactorFileError if it is missing or not a JSON object.
    """
    path = Path(model_dir) / "config.json"
    config = strict_json.read(path)
    if not isinstance(config, dict):
        raise FactorFileError(f"{path}: should be a JSON object, not {shown(config)}.")
    return config


def base(config: Config, name: str | None = None, base_dir: Path | None = None) -> Base:
    """The model as it ships: its identity and its own rotation within its original length.

    For a longrope config, that rotation is its short list, or the original length's set in the
    factor file that it names (with `base_dir` as in `from_config`). Raises FactorFileError if the
    config is unusable or its rotation is not one vector of factors.
    """
    identity = model_identity(config, name)
    if is_longrope(config):
        lists = from_config(config, base_dir)
        reach = min(identity.original_max_position_embeddings, lists.max_length)
        short = lists.sets[lists.select(reach)]
        return Base(identity, Rescaling(short.factors, short.attention_factor))
    text = _text(config)
    rope, kind = _rope_parameters(text), rope_type(config)
    if own_rotation.is_scaled(kind):
        pairs = own_rotation.Pairs(identity.rotary_dim, identity.rope_theta)
        own = own_rotation.factors(rope, kind, text, pairs)
        before = own_rotation.original_without(rope, kind, text)
        return Base(identity, own, Scaling(kind, own_rotation.place(text), before))
    return Base(identity, methods.original(identity, 1.0))


def model_identity(config: Config, name: str | None = None) -> ModelIdentity:
    """What a factor file records about the model.

    rotary_dim is int(head_dim * partial_rotary_factor). The original length is the window that the
    model ships with: `own_rotation.window` if its rotation is scaled already; otherwise
    original_max_position_embeddings of the config or of its rope_parameters; otherwise
    max_position_embeddings, or what `trained_windows` knows of it. In a multi-modal config, the
    text_config counts. Fields that the config leaves out have the architecture's defaults. Raises
    FactorFileError naming a field that is missing or unusable, or the rope_type if the model's
    rotation is not one vector of factors.
    """
    text = _text(config)
    rope = _rope_parameters(text)
    kind = rope_type(config)
    own_rotation.check_attention(text, rope)
    if not is_longrope(config):
        own_rotation.check(rope, kind, text)
    theta = rope.get("rope_theta", text.get("rope_theta"))
    if theta is None:
        raise FactorFileError(
            "The model's config has no rope_theta, in rope_parameters or beside it, and its "
            f"model_type {shown(text.get('model_type'))} is not known here: if the model has "
            "rotary embeddings, its config should state rope_theta."
        )
    named = config.get("architectures") or text.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise FactorFileError("The model's config names no architecture in architectures.")
    rotary_dim = _rotary_dim(text, rope)
    if not 2 <= rotary_dim <= bounds.ROTARY_DIM or rotary_dim % 2:
        raise FactorFileError(
            f"The model's config gives a rotary dimension of {rotary_dim} (head_dim times "
            f"partial_rotary_factor); it should be even and from 2 to {bounds.ROTARY_DIM}."
        )
    theta = hf_fields.theta(theta, "rope_theta")
    return ModelIdentity(
        name=text_files.readable(
            str(name or config.get("_name_or_path") or text.get("model_type") or _NAMELESS)
        ),
        architecture=named[0],
        rotary_dim=rotary_dim,
        rope_theta=theta,
        original_max_position_embeddings=(
            own_rotation.window(rope, kind, text)
            if own_rotation.is_scaled(kind)
            else _original_length(config, text, rope, theta)
        ),
    )


def rope_type(config: Config) -> str:
    """The config's rope_type (`type` in older configs); 'default' if it names none."""
    return _type(_rope_parameters(_text(config)))


def layout(config: Config) -> dict[str, Any]:
    """The rope parameters that no factors change, as far as the config or architecture states them.

    These are the share of each head that rotates, and for tokens with several positions (M-RoPE)
    which of them each pair of dimensions rotates by.
    """
    text = _text(config)
    rope = _rope_parameters(text)
    stated = {name: rope[name] for name in own_rotation.SECTIONS if rope.get(name) is not None}
    share = rope.get("partial_rotary_factor", text.get("partial_rotary_factor"))
    if share is not None:
        stated["partial_rotary_factor"] = hf_fields.share(share, "partial_rotary_factor")
    return stated


def is_longrope(config: Config) -> bool:
    """Whether the config's rope_type is longrope (formerly su) for any type of layer."""
    said = _said(config)
    rope = said.get("rope_scaling") or said.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return False
    of_layers = (value for value in rope.values() if isinstance(value, Mapping))
    return any(_type(parameters) in _LONGROPE for parameters in (rope, *of_layers))


def served_window(config: Config) -> int:
    """The longest sequence, in tokens, that vLLM serves if no factors extend the model.

    This is max_position_embeddings, times `factor` for rope_types whose configs state the length
    before scaling (vLLM's `_get_and_verify_max_len`).
    """
    text = _text(config)
    stated = length(text.get("max_position_embeddings"), "max_position_embeddings")
    rope = _rope_parameters(text)
    if _type(rope) not in ("linear", "dynamic"):
        return stated
    scaled = int(stated * hf_fields.factor(rope.get("factor"), "rope_parameters.factor"))
    return length(scaled, "max_position_embeddings times rope_parameters.factor")


def two_list(config: Config, name: str | None = None) -> FactorFile:
    """The short and long factors of a longrope config as a factor file of two sets.

    The short set serves up to the original length, the long set up to max_position_embeddings. If
    that is not above the original length, the long set serves up to `factor` times the original
    length instead; without such a factor, no length is left for a long set, and there is none.

    Attention factors are short_mscale and long_mscale if given, else attention_factor, else
    sqrt(1 + ln s / ln L_original), or 1 for s <= 1, as in `_compute_longrope_parameters`. There, s
    is `factor` or, without one, max_position_embeddings over L_original. Raises FactorFileError
    naming the field that is unusable.
    """
    text = _text(config)
    rope = _rope_parameters(text)
    if not is_longrope(config):
        raise FactorFileError(
            f"The model's config has rope_type {shown(rope_type(config))}; "
            'its own factors can be read only if that is "longrope".'
        )
    identity = model_identity(config, name)
    original = identity.original_max_position_embeddings
    window = length(text.get("max_position_embeddings"), "max_position_embeddings")
    ratio = window / original
    if rope.get("factor") is not None:
        ratio = number(rope["factor"], "rope_parameters.factor")
    attention = _attention_factor(rope, ratio, original)
    extended = length(int(original * ratio), "rope_parameters.factor times the original length", 0)
    reach = {"short": original, "long": window if window > original else extended}
    provenance = _published(identity)
    sets = []
    for role, max_length in reach.items():
        factors = factor_list(rope, f"{role}_factor", identity.rotary_dim)
        if role == "long" and max_length <= original:
            continue
        mscale = rope.get(f"{role}_mscale")
        sets.append(
            FactorSet(
                max_length=max_length,
                factors=factors,
                start_tokens=0,
                attention_factor=(
                    attention
                    if mscale is None
                    else hf_fields.attention_factor(mscale, f"rope_parameters.{role}_mscale")
                ),
                provenance=provenance,
            )
        )
    return schema.build(identity, sets)


def attention_factor(ratio: float, original: int) -> float:
    """sqrt(1 + ln s / ln L_original) for s = `ratio`, and 1 for s <= 1.

    LongRoPE, arXiv 2402.13753, as in its authors' code and in transformers'
    `_compute_longrope_parameters`.
    """
    return 1.0 if ratio <= 1.0 else math.sqrt(1 + math.log(ratio) / math.log(original))


def hf_overrides(
    factor_file: FactorFile, path: Path | str, config: Config | None = None
) -> dict[str, Any]:
    """The value of `vllm serve --hf-overrides` that serves a model with the factor file at `path`.

    The short and long factors are those of the original length's set and of the last set, for
    programs that know only two lists. `longrope_factors` is the absolute path of the file with all
    sets. Pass the model's config if there is one: these rope_parameters replace its own, so they
    repeat its `layout`, and they stand where its own do.
    """
    model, last = factor_file.model, factor_file.sets[-1]
    original = model.original_max_position_embeddings
    short = factor_file.sets[factor_file.select(min(original, factor_file.max_length))]
    rope: dict[str, Any] = {
        "rope_type": "longrope",
        "rope_theta": model.rope_theta,
        "short_factor": list(short.factors),
        "long_factor": list(last.factors),
        "original_max_position_embeddings": original,
        "factor": last.max_length / original,
        "attention_factor": last.attention_factor,
    }
    if needs_mscales({"architectures": [model.architecture]} if config is None else config):
        rope["short_mscale"] = short.attention_factor
        rope["long_mscale"] = last.attention_factor
    fields = {
        "rope_parameters": rope,
        "max_position_embeddings": last.max_length,
        "original_max_position_embeddings": original,
        "longrope_factors": str(Path(path).absolute()),
    }
    if config is None:
        return fields
    rope.update(layout(config))
    return fields if _said(config) is config else {"text_config": fields}


def needs_mscales(config: Config) -> bool:
    """Whether the model's configuration class refuses a longrope without the mscales."""
    named = config.get("architectures") or []
    return any(architecture in _WITH_MSCALES for architecture in named)


def from_config(config: Config, base_dir: Path | None = None) -> FactorFile:
    """The factor file of a served model: the one that its config names, or its own two lists.

    A relative path in `longrope_factors` is relative to `base_dir`, or to the working directory if
    that is None. Raises FactorFileError for a file that does not load or was made for another
    model.
    """
    named = named_file(config)
    if named is None:
        return two_list(config)
    path = (base_dir or Path()) / named
    factor_file = schema.load(path)
    schema.check_model(factor_file, model_identity(config), path)
    return factor_file


def named_file(config: Config) -> str | None:
    """The factor file that the config, or the text part of it, names; None if it names none.

    Raises FactorFileError if that is no path.
    """
    named = _said(config).get("longrope_factors", config.get("longrope_factors"))
    if named is not None and not isinstance(named, str):
        raise FactorFileError(
            f"The model's config has longrope_factors {shown(named)}; it should be a file's path."
        )
    return named


def _said(config: Config) -> Config:
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def _text(config: Config) -> Config:
    """The language model's part of the config, completed with its architecture's defaults."""
    said = _said(config)
    if said is not config and said.get("model_type") is None:
        said = {**said, "model_type": config.get("model_type")}
    return architectures.completed(said)


def _type(rope: Config) -> str:
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    return "default" if kind == "mrope" else kind  # Qwen2-VL's word for several positions


def _rope_parameters(text: Config) -> Config:
    # In transformers, an old rope_scaling takes precedence over rope_parameters.
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise FactorFileError(
            f"The model's config has rope_parameters {shown(rope)}; it should be an object."
        )
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise FactorFileError(
            "The model's config has different rope_parameters for each type of layer; one set of "
            "factors needs one rotation for all layers."
        )
    return rope


def _rotary_dim(text: Config, rope: Config) -> int:
    # With latent attention (MLA), only qk_rope_head_dim numbers of each head rotate.
    head_dim = text.get("qk_rope_head_dim") or text.get("head_dim")
    if head_dim is None:
        hidden = length(text.get("hidden_size"), "hidden_size")
        head_dim = hidden // length(text.get("num_attention_heads"), "num_attention_heads")
    share = rope.get("partial_rotary_factor", text.get("partial_rotary_factor"))
    share = 1.0 if share is None else hf_fields.share(share, "partial_rotary_factor")
    return int(length(head_dim, "head_dim") * share)


def _original_length(config: Config, text: Config, rope: Config, theta: float) -> int:
    # The architecture's default (Phi-3: 4,096) is meant for its two lists only.
    said = text if is_longrope(config) else _said(config)
    for place, value in (
        ("original_max_position_embeddings", said.get("original_max_position_embeddings")),
        (
            "rope_parameters.original_max_position_embeddings",
            rope.get("original_max_position_embeddings"),
        ),
    ):
        if value is not None:
            return length(value, place, least=2)
    stated = length(text.get("max_position_embeddings"), "max_position_embeddings", least=2)
    return stated if is_longrope(config) else trained_windows.of(text, theta, stated)


def _attention_factor(rope: Config, ratio: float, original: int) -> float:
    if rope.get("attention_factor") is not None:
        return hf_fields.attention_factor(
            rope["attention_factor"], "rope_parameters.attention_factor"
        )
    return attention_factor(ratio, original)


def _published(identity: ModelIdentity) -> Provenance:
    return Provenance(
        method="published",
        source=f"rope_parameters in the config of {identity.name}",
        date=datetime.date.today().isoformat(),
        tool_version=__version__,
    )
