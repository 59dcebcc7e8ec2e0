"""The embedded model, with real text: greedy tokens equal Hugging Face's."""

import pydoc_data.topics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_factors.factor_file import hf, methods, schema
from longrope_factors.factor_file import shipped as library
from longrope_factors.factor_file.schema import FORMAT, FactorFile
from longrope_server.serve.embedded import NAME, model_directory

from tests.plugin.engine import engine, generate, scheduler, tokens
from tests.plugin.models import TinyModel
from tests.plugin.reference import Reference

SHORT_LIMITS = (96, 192, 384)


@pytest.fixture(scope="module")
def words() -> list[int]:
    """Token ids of the language reference that comes with Python: 112,955 of them."""
    from transformers import AutoTokenizer

    text = "\n".join(pydoc_data.topics.topics.values())
    return AutoTokenizer.from_pretrained(model_directory())(text).input_ids


@pytest.fixture(scope="module")
def shipped() -> TinyModel:
    return TinyModel(model_directory(), schema.load(library.path(NAME)))


@pytest.fixture(scope="module")
def shortened(shipped: TinyModel) -> TinyModel:
    """Sets with limits that a test can afford: YaRN over an original length of 96."""
    identity = shipped.factor_file.model.model_copy(
        update={"original_max_position_embeddings": SHORT_LIMITS[0]}
    )
    sets = tuple(
        methods.factor_set("original" if i == 0 else "yarn", identity, limit)
        for i, limit in enumerate(SHORT_LIMITS)
    )
    return TinyModel(shipped.directory, FactorFile(format=FORMAT, model=identity, sets=sets))


def serve(model: TinyModel, path: Path, **arguments: Any) -> Any:
    schema.save(model.factor_file, path)
    return engine(model, hf_overrides=hf.hf_overrides(model.factor_file, path), **arguments)


@pytest.fixture(scope="module")
def reference(shortened: TinyModel) -> Iterator[Reference]:
    reference = Reference(shortened.directory, shortened.factor_file)
    yield reference
    print(f"\n{reference.excused} of {reference.compared} tokens were excused as ties")


def test_around_every_limit(
    shortened: TinyModel, reference: Reference, words: list[int], tmp_path: Path
) -> None:
    lengths = [50, 95, 96, 97, 191, 192, 193]
    prompts = [words[i * 1000 : i * 1000 + n] for i, n in enumerate(lengths)]
    with serve(shortened, tmp_path / "f.json", max_num_batched_tokens=256) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=8))
        assert scheduler(llm).promotions == 4
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_around_the_shipped_limits(shipped: TinyModel, words: list[int], tmp_path: Path) -> None:
    """As served: bf16, the shipped file, 8,191 to 12,000 tokens beside a short prompt."""
    lengths = [50, 8191, 8192, 8193, 12_000]
    prompts = [words[i * 2000 : i * 2000 + n] for i, n in enumerate(lengths)]
    with serve(
        shipped,
        tmp_path / "f.json",
        dtype="bfloat16",
        max_model_len=13_000,
        max_num_batched_tokens=2048,
    ) as llm:
        outputs = tokens(generate(llm, prompts, max_tokens=6))
        assert scheduler(llm).promotions == 2
    reference = Reference(shipped.directory, shipped.factor_file, dtype=torch.bfloat16)
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    print(f"\n{reference.excused} of {reference.compared} tokens were excused as ties")
