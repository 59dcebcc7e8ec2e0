"""Published factors, from a folder of JSON records, as the factor files of the library.

Each record is one CSV of the LongRoPE authors, or the two lists of a Hugging Face config, with
its source. `scripts/library` writes the files again.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from longrope_factors import __version__
from longrope_factors.factor_file import hf, schema
from longrope_factors.factor_file.files import strict_json
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity, Provenance
from longrope_factors.formats.two_lists import authors_attention_factor

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class _FineTuned:
    """One set of weights that the authors fine-tuned, and the names of its records."""

    name: str
    architecture: str
    records: tuple[str, ...]


_LLAMA = "LLaMA2-7B fine-tuned at {} by the LongRoPE authors (weights not published)"
_MISTRAL = "Mistral-7B-v0.1 fine-tuned for {} by the LongRoPE authors (weights not published)"
_LONG = ("512k", "1024k", "2048k")
_FINE_TUNED = {
    "llama2-7b-ft128k": _FineTuned(
        _LLAMA.format("128k"),
        "LlamaForCausalLM",
        tuple(f"{x}_la2_128k" for x in ("4k", "8k", "16k", "32k", "ft", "256k", *_LONG)),
    ),
    "llama2-7b-ft256k": _FineTuned(
        _LLAMA.format("256k"),
        "LlamaForCausalLM",
        tuple(f"{x}_la2_256k" for x in ("4k", "8k", "16k", "32k", "ft", *_LONG)),
    ),
    "mistral-7b-ft128k": _FineTuned(
        _MISTRAL.format("128k"),
        "MistralForCausalLM",
        tuple(f"{x}_mis_128k" for x in ("4k", "8k", "ft", "256k", *_LONG)),
    ),
    "mistral-7b-ft256k": _FineTuned(
        _MISTRAL.format("256k"),
        "MistralForCausalLM",
        tuple(f"{x}_mis_256k" for x in ("4k", "8k", "ft", *_LONG)),
    ),
}
_PHI_SOURCE = (
    "rope_scaling of microsoft/Phi-3-mini-128k-instruct's config.json of 2024-07 (MIT), "
    "short factors rounded to two decimals"
)


def files(records: Path) -> Iterator[tuple[str, FactorFile]]:
    """Name and content of each published factor file, from the folder of records.

    Raises FactorFileError naming a record that is missing.
    """
    for name, weights in _FINE_TUNED.items():
        yield name, _from_csvs(records, weights)
    llama3 = _record(records, "longrope2_llama3_8b_128k")
    source = llama3["source"]
    yield (
        "llama3-8b-longrope2-128k",
        _from_lists(
            llama3,
            "Meta-Llama-3-8B trained for 128k by LongRoPE2 (weights not published)",
            "LlamaForCausalLM",
            f"{source['repo']} at {source['commit'][:10]}, {source['path']} (MIT); "
            "LongRoPE2, arXiv 2502.20082",
        ),
    )
    yield (
        "phi-3-mini-128k",
        _from_lists(
            _record(records, "phi3_mini_128k_2024-07"),
            "microsoft/Phi-3-mini-128k-instruct",
            "Phi3ForCausalLM",
            _PHI_SOURCE,
        ),
    )


def _from_csvs(records: Path, weights: _FineTuned) -> FactorFile:
    # The ft set is the one of the length that the weights were fine-tuned for.
    sets = [_set(_record(records, name)) for name in weights.records]
    first = _record(records, weights.records[0])
    return schema.build(_identity(first, weights.name, weights.architecture), sets)


def _set(record: dict[str, Any]) -> FactorSet:
    length, source = record["target_length"], record["source"]
    return FactorSet(
        max_length=length,
        factors=tuple(map(float, record["rescale_factors"])),
        start_tokens=0,
        attention_factor=authors_attention_factor(
            length, record["original_max_position_embeddings"]
        ),
        provenance=_provenance(
            f"{source['repo']} at {source['commit'][:10]}, {source['path']} (MIT): "
            f"{record['role']}; LongRoPE, arXiv 2402.13753"
        ),
    )


def _from_lists(record: dict[str, Any], name: str, architecture: str, source: str) -> FactorFile:
    original = record["original_max_position_embeddings"]
    config = {
        "architectures": [architecture],
        "head_dim": record["head_dim"],
        "max_position_embeddings": record["target_length"],
        "original_max_position_embeddings": original,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": record["rope_theta"],
            "short_factor": record["short_factor"],
            "long_factor": record["long_factor"],
        },
    }
    factor_file = hf.two_list(config, name)
    provenance = _provenance(source)
    sets = [
        factor_set.model_copy(update={"provenance": provenance}) for factor_set in factor_file.sets
    ]
    return schema.build(factor_file.model, sets)


def _identity(record: dict[str, Any], name: str, architecture: str) -> ModelIdentity:
    return ModelIdentity(
        name=name,
        architecture=architecture,
        rotary_dim=record["head_dim"],
        rope_theta=record["rope_theta"],
        original_max_position_embeddings=record["original_max_position_embeddings"],
    )


def _provenance(source: str) -> Provenance:
    return Provenance(
        method="published",
        source=source,
        date=datetime.date.today().isoformat(),
        tool_version=__version__,
    )


def _record(records: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = strict_json.read(records / f"{name}.json")
    return record


def main() -> None:
    """Write the library's files of published factors."""
    for name, factor_file in files(ROOT / "tests" / "published"):
        schema.save(factor_file, ROOT / "factors" / "library" / f"{name}.json")


if __name__ == "__main__":
    typer.run(main)
