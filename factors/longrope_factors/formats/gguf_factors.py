"""GGUF: llama.cpp's rope factor tensors, alone or in a copy of a model, whole or in pieces.

llama.cpp's converter writes and its loader reads two float32 tensors of d/2 numbers, and metadata
for the original length and one attention factor. A llama model loads the tensors only if
rope.scaling.type is longrope; rope.scaling.factor must be absent, because it would stretch
positions a second time. llama.cpp uses the long tensor for every sequence if its context is larger
than the original length.
"""

from pathlib import Path
from typing import Any

import numpy as np

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files.whole_file import replacing
from longrope_factors.factor_file.schema import FactorFile, FactorSet
from longrope_factors.formats import gguf_pieces
from longrope_factors.formats.gguf_pieces import GgufModel
from longrope_factors.formats.two_lists import lost_by_two_lists, two_sets

LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
# GGUF's names of the architectures whose factor tensors llama.cpp loads.
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Phi3ForCausalLM": "phi3",
    "PhiMoEForCausalLM": "phimoe",
    "MiniCPMForCausalLM": "minicpm",
    "MiniCPM3ForCausalLM": "minicpm3",
}
_FORM = "A GGUF file"


def write(
    factor_file: FactorFile, output: Path, model: Path | None = None, length: int | None = None
) -> list[str]:
    """Write a GGUF file of the factors, or a copy of the GGUF model `model` with them in it.

    `model` may be any piece of a model in several pieces; it is written as one file. The short
    tensor is the set of the original length, the long tensor the last set or the one that covers
    `length` tokens. Returns what was lost, in sentences. Raises UsageError for an architecture
    whose factors llama.cpp does not load, for a `model` that is not a GGUF file, is incomplete or
    has another rotation, and for an `output` whose name is that of a piece.
    """
    from gguf import GGUFWriter

    pair = two_sets(factor_file, length)
    architecture = ARCHITECTURES.get(factor_file.model.architecture)
    if architecture is None:
        raise UsageError(
            f"llama.cpp loads no rope factors for {factor_file.model.architecture}, only for "
            f"{', '.join(ARCHITECTURES)}."
        )
    if gguf_pieces.PIECE.fullmatch(output.name):
        raise UsageError(
            f"{output}: has the name of one piece of several, but one whole file is written: give "
            "it another name with -o."
        )
    source = None if model is None else _opened(model, factor_file, architecture)
    metadata = _metadata(factor_file, pair, architecture)
    with replacing(output) as temporary:
        writer = GGUFWriter(temporary, architecture)
        if source is not None:
            writer.endianess = source.endianess
            _copy_metadata(writer, source, metadata)
        for key, (value, kind) in metadata.items():
            writer.add_key_value(key, value, kind)
        _write_tensors(writer, source, pair)
        writer.close()
    return _lost(factor_file, pair, source)


def _metadata(
    factor_file: FactorFile, pair: tuple[FactorSet, FactorSet], architecture: str
) -> dict[str, tuple[Any, Any]]:
    from gguf import GGUFValueType, Keys, RopeScalingType

    integer, real, text = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING
    identity = factor_file.model
    values = {
        Keys.LLM.CONTEXT_LENGTH: (pair[1].max_length, integer),
        Keys.Rope.DIMENSION_COUNT: (identity.rotary_dim, integer),
        Keys.Rope.FREQ_BASE: (identity.rope_theta, real),
        Keys.Rope.SCALING_TYPE: (RopeScalingType.LONGROPE.value, text),
        Keys.Rope.SCALING_ORIG_CTX_LEN: (identity.original_max_position_embeddings, integer),
        Keys.Rope.SCALING_ATTN_FACTOR: (pair[1].attention_factor, real),
    }
    return {key.format(arch=architecture): value for key, value in values.items()}


def _opened(path: Path, factor_file: FactorFile, architecture: str) -> GgufModel:
    from gguf import Keys

    model = gguf_pieces.read(path)
    identity = factor_file.model
    # The second value is llama.cpp's default: theta 10000, and the whole head rotates.
    expected = {
        Keys.General.ARCHITECTURE: (architecture, None),
        Keys.Rope.DIMENSION_COUNT: (identity.rotary_dim, identity.rotary_dim),
        Keys.Rope.FREQ_BASE: (float(np.float32(identity.rope_theta)), 10000.0),
    }
    for template, (ours, default) in expected.items():
        key = template.format(arch=architecture)
        said = model.value(key)
        theirs = default if said is None else said
        if theirs != ours:
            raise UsageError(f"{path}: {key} is {theirs!r}, but the factors are for {ours!r}.")
    return model


def _copy_metadata(writer: Any, source: GgufModel, replaced: dict[str, Any]) -> None:
    from gguf import GGUFValueType

    writer.data_alignment = source.alignment
    for name, field in source.fields.items():
        # The writer itself adds the architecture and GGUF's own counts.
        own = name.startswith(("GGUF.", gguf_pieces.SPLIT)) or name == "general.architecture"
        scaling = ".rope.scaling." in name or name.endswith(".rope.scale_linear")
        if own or scaling or name in replaced:
            continue
        kind = field.types[0]
        item = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=item)


def _write_tensors(
    writer: Any, source: GgufModel | None, pair: tuple[FactorSet, FactorSet]
) -> None:
    from gguf import GGMLQuantizationType, GGUFEndian

    float32 = ">f4" if writer.endianess == GGUFEndian.BIG else "<f4"
    tensors = [
        (name, np.asarray(factor_set.factors, dtype=float32), GGMLQuantizationType.F32)
        for name, factor_set in zip((SHORT, LONG), pair, strict=True)
    ]
    if source is not None:
        kept = [tensor for tensor in source.tensors if not _is_rope(tensor.name)]
        tensors += [(tensor.name, tensor.data, tensor.tensor_type) for tensor in kept]
    for name, data, kind in tensors:
        writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # The writer's own write_tensors_to_file calls numpy's tofile, which reports no error when the
    # disk is full and it has written only part of the array.
    (file,) = writer.fout
    writer.write_padding(file, file.tell())
    for _, data, _ in tensors:
        file.write(data.tobytes())
        writer.write_padding(file, data.nbytes)


def _is_rope(name: str) -> bool:
    return name in (LONG, SHORT, "rope_freqs.weight")


def _lost(
    factor_file: FactorFile, pair: tuple[FactorSet, FactorSet], source: GgufModel | None
) -> list[str]:
    short_set, long_set = pair
    lost = lost_by_two_lists(factor_file, pair, _FORM)
    if short_set.attention_factor != long_set.attention_factor:
        lost.append(
            f"{_FORM} has one attention factor, the long list's {long_set.attention_factor!r}: "
            f"the short list's {short_set.attention_factor!r} is lost."
        )
    numbers = (*short_set.factors, *long_set.factors, long_set.attention_factor)
    if any(float(np.float32(number)) != number for number in numbers):
        lost.append(f"{_FORM} holds factors in float32: they are rounded to seven digits.")
    replaced = [] if source is None else [t.name for t in source.tensors if _is_rope(t.name)]
    if replaced:
        lost.append(f"The model's own {', '.join(replaced)} are replaced.")
    return lost
