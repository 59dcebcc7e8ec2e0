"""Angles are exact at every position, without a table that grows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from longrope_factors.factor_file.schema import FORMAT, FactorFile, FactorSet, ModelIdentity
from longrope_plugin.rotation.packing import pack, unpack
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
from longrope_plugin.rotation.turns import turn_table

from tests.plugin.models import PROVENANCE, random_factor_file
from tests.plugin.reference import angles

PUBLISHED = Path(__file__).parents[1] / "published"
LAST = 2_097_151


def published_files() -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted(PUBLISHED.glob("*.json"))]


def published(path: Path) -> FactorFile:
    """A published file as a factor file whose last set reaches 2,097,152 tokens."""
    content = json.loads(path.read_text())
    lists = (
        [content["rescale_factors"]]
        if "rescale_factors" in content
        else [content["short_factor"], content["long_factor"]]
    )
    sets = tuple(
        FactorSet(
            max_length=(LAST + 1) >> (len(lists) - 1 - i),
            factors=tuple(map(float, factors)),
            start_tokens=8 * i,
            attention_factor=1.0,
            provenance=PROVENANCE,
        )
        for i, factors in enumerate(lists)
    )
    identity = ModelIdentity(
        name=path.stem,
        architecture="LlamaForCausalLM",
        rotary_dim=2 * len(lists[0]),
        rope_theta=float(content["rope_theta"]),
        original_max_position_embeddings=int(content["original_max_position_embeddings"]),
    )
    return FactorFile(format=FORMAT, model=identity, sets=sets)


def assert_exact(factor_file: FactorFile, positions: np.ndarray) -> None:
    """Within 1e-6 rad of float64, read back from cos and sin."""
    table = turn_table(factor_file)
    for index, factor_set in enumerate(factor_file.sets):
        packed = pack(torch.from_numpy(positions), torch.full((len(positions),), index))
        cos, sin = (
            table.cos_sin(packed, torch.float32)
            .double()
            .numpy()
            .reshape(len(positions), 2, -1)
            .transpose(1, 0, 2)
        )
        expected = angles(positions, factor_set, factor_file.model)
        error = np.arctan2(sin, cos) - expected
        error = np.abs((error + np.pi) % (2 * np.pi) - np.pi)
        assert error.max() < 1e-6


@pytest.mark.parametrize("path", published_files())
def test_published_files(path: Path) -> None:
    generator = np.random.default_rng(0)
    positions = np.concatenate(
        (
            np.arange(64),
            generator.integers(0, LAST, 2000),
            2 ** np.arange(21),
            2 ** np.arange(1, 22) - 1,
            np.arange(LAST - 1000, LAST + 1),
        )
    )
    assert_exact(published(path), positions)


@given(
    seed=st.integers(0, 1000),
    positions=st.lists(st.integers(0, LAST), min_size=1, max_size=20),
    theta=st.floats(100, 1e8),
)
def test_any_factors(seed: int, positions: list[int], theta: float) -> None:
    factor_file = random_factor_file(64, [4096, LAST + 1], theta=theta, seed=seed)
    assert_exact(factor_file, np.array(positions))


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 1000)), min_size=1, max_size=9))
def test_packing_round_trip(tokens: list[tuple[int, int]]) -> None:
    positions, sets = torch.tensor(tokens).T
    back = unpack(pack(positions, sets))
    assert torch.equal(back[0], positions)
    assert torch.equal(back[1], sets)


def test_buffers_do_not_grow() -> None:
    limits = [8192, 131_072, 1_048_576, 2_097_152]
    layer = LongRoPERotaryEmbedding(random_factor_file(128, limits), 128, is_neox_style=True)
    assert sum(b.numel() * b.element_size() for b in layer.buffers()) < 4096


@pytest.mark.parametrize("is_neox_style", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize("rotary_dim", [64, 32], ids=["full", "partial"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernel_and_traceable_forms_agree(
    is_neox_style: bool, rotary_dim: int, dtype: torch.dtype
) -> None:
    """The CPU kernel, and the form that other devices trace, against the equation in float64."""
    factor_file = random_factor_file(rotary_dim, [64, 128, 256])
    layer = LongRoPERotaryEmbedding(factor_file, 64, is_neox_style)
    positions, sets = torch.arange(100), torch.arange(100) % 3
    packed = pack(positions, sets)
    query, key = torch.randn(100, 9 * 64, dtype=dtype), torch.randn(100, 3 * 64, dtype=dtype)
    cos_sin = turn_table(factor_file).cos_sin(packed, dtype)
    traced = [layer._rotate(x, cos_sin) for x in (query, key)]
    expected = [_rotate_in_float64(x, sets, factor_file, is_neox_style) for x in (query, key)]
    kernel = layer(packed, query.clone(), key.clone())
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for x, y, z in zip(traced, kernel, expected, strict=True):
        torch.testing.assert_close(x.double(), z, atol=tolerance, rtol=0)
        torch.testing.assert_close(y.double(), z, atol=tolerance, rtol=0)


def _rotate_in_float64(
    x: torch.Tensor, sets: torch.Tensor, factor_file: FactorFile, is_neox_style: bool
) -> torch.Tensor:
    half = factor_file.model.rotary_dim // 2
    rotated = x.double().view(len(x), -1, 64).clone()
    for n, index in enumerate(sets.tolist()):
        factor_set = factor_file.sets[index]
        turn = torch.from_numpy(angles(np.array([n]), factor_set, factor_file.model)[0])
        cos, sin = (
            turn.cos() * factor_set.attention_factor,
            turn.sin() * factor_set.attention_factor,
        )
        first = slice(0, half) if is_neox_style else slice(0, 2 * half, 2)
        second = slice(half, 2 * half) if is_neox_style else slice(1, 2 * half, 2)
        a, b = rotated[n][:, first].clone(), rotated[n][:, second].clone()
        rotated[n][:, first] = a * cos - b * sin
        rotated[n][:, second] = b * cos + a * sin
    return rotated.view(x.shape)


def test_remembered_rows_follow_the_content_not_the_buffer() -> None:
    """A runner may reuse its buffer: the same tensor with other positions is another question."""
    factor_file = random_factor_file(64, [64, 128])
    layer = LongRoPERotaryEmbedding(factor_file, 64, is_neox_style=True)
    buffer = torch.arange(10)
    query = torch.randn(10, 64)
    first = layer(buffer, query.clone(), query.clone())[0].clone()
    buffer += 5
    moved = layer(buffer, query.clone(), query.clone())[0]
    assert not torch.allclose(first, moved)
    fresh = layer._rotate(query, turn_table(factor_file).cos_sin(buffer, torch.float32))
    torch.testing.assert_close(moved, fresh)
