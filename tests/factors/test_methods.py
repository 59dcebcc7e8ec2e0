"""The analytic methods agree with transformers' where it has them, and with their formulas."""

import math
from typing import Any

import numpy as np
import pytest
from longrope_factors.factor_file import methods
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import Method
from longrope_factors.models.reference import angles, frequencies

from tests.factors.examples import IDENTITY, llama_config

RATIOS = [1.0, 2.0, 4.0, 7.5, 256.0]
LLAMA2 = IDENTITY.model_copy(
    update={"rotary_dim": 128, "rope_theta": 10000.0, "original_max_position_embeddings": 4096}
)


def transformers_frequencies(rope_type: str, **rope: Any) -> tuple[np.ndarray, float]:
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": rope_type, "rope_theta": IDENTITY.rope_theta, **rope}
    config = LlamaConfig(**llama_config(rope_parameters=rope))
    found, attention_factor = ROPE_INIT_FUNCTIONS[rope_type](config, torch.device("cpu"))
    return found.double().numpy(), attention_factor


def rescaled(method: Method, ratio: float) -> np.ndarray:
    return frequencies(IDENTITY) / np.asarray(methods.rescale(method, IDENTITY, ratio).factors)


@pytest.mark.parametrize("ratio", RATIOS)
def test_pi_is_transformers_linear(ratio: float) -> None:
    theirs, attention_factor = transformers_frequencies("linear", factor=ratio)
    assert rescaled("pi", ratio) == pytest.approx(theirs, rel=1e-6)
    assert methods.pi(IDENTITY, ratio).attention_factor == attention_factor


@pytest.mark.parametrize("ratio", RATIOS)
def test_yarn_is_transformers_without_truncation(ratio: float) -> None:
    theirs, attention_factor = transformers_frequencies(
        "yarn", factor=ratio, original_max_position_embeddings=8192, truncate=False
    )
    assert rescaled("yarn", ratio) == pytest.approx(theirs, rel=1e-5)
    assert methods.yarn(IDENTITY, ratio).attention_factor == pytest.approx(attention_factor)


@pytest.mark.parametrize("ratio", RATIOS)
def test_truncated_yarn_differs_inside_the_ramp_only(ratio: float) -> None:
    theirs, _ = transformers_frequencies(
        "yarn", factor=ratio, original_max_position_embeddings=8192
    )
    turns = IDENTITY.original_max_position_embeddings * frequencies(IDENTITY) / (2 * math.pi)
    outside = (turns > 2 * 32) | (turns < 0.5)
    assert rescaled("yarn", ratio)[outside] == pytest.approx(theirs[outside], rel=1e-6)
    truncated = methods.yarn(IDENTITY, ratio, truncate=True).factors
    assert frequencies(IDENTITY) / np.asarray(truncated) == pytest.approx(theirs, rel=1e-6)


def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones() -> None:
    for identity in (IDENTITY, LLAMA2):
        factors = np.asarray(methods.yarn(identity, 4.0).factors)
        turns = identity.original_max_position_embeddings * frequencies(identity) / (2 * math.pi)
        assert np.all(factors[turns > 32] == 1.0)
        assert factors[turns < 1] == pytest.approx(4.0)
        assert np.all(np.diff(factors) >= 0)


@pytest.mark.parametrize("ratio", RATIOS)
def test_ntk_is_a_larger_base(ratio: float) -> None:
    d = IDENTITY.rotary_dim
    base = IDENTITY.rope_theta * ratio ** (d / (d - 2))
    expected = base ** (-2.0 * np.arange(d // 2) / d)
    assert rescaled("ntk", ratio) == pytest.approx(expected, rel=1e-12)
    factors = methods.ntk(IDENTITY, ratio).factors
    assert (factors[0], factors[-1]) == pytest.approx((1.0, ratio))


def test_ntk_is_transformers_dynamic_at_its_length() -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "dynamic", "rope_theta": IDENTITY.rope_theta, "factor": 1.0}
    config = LlamaConfig(**llama_config(rope_parameters=rope))
    theirs, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, torch.device("cpu"), seq_len=32768)
    assert rescaled("ntk", 4.0) == pytest.approx(theirs.double().numpy(), rel=1e-5)


def test_attention_factors() -> None:
    assert methods.yarn(IDENTITY, math.e).attention_factor == pytest.approx(1.1)
    for method in ("original", "pi", "ntk"):
        assert methods.rescale(method, IDENTITY, 4.0).attention_factor == 1.0


@pytest.mark.parametrize("method", methods.METHODS)
def test_no_extension_changes_nothing(method: Method) -> None:
    assert methods.rescale(method, IDENTITY, 1.0) == methods.original(IDENTITY, 1.0)


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn"])
def test_a_ratio_below_1_is_refused(method: Method) -> None:
    with pytest.raises(FactorFileError, match="8192"):
        methods.factor_set(method, IDENTITY, 4096)


def test_ntk_needs_more_than_one_pair() -> None:
    with pytest.raises(FactorFileError, match="rotary_dim above 2"):
        methods.ntk(IDENTITY.model_copy(update={"rotary_dim": 2}), 2.0)


def test_other_methods_have_no_formula() -> None:
    with pytest.raises(FactorFileError, match="search"):
        methods.rescale("longrope", IDENTITY, 2.0)
    with pytest.raises(FactorFileError, match="original, pi, ntk, yarn"):
        methods.named("longrope")


def test_angles_of_start_tokens_are_the_original_ones() -> None:
    factor_set = methods.factor_set("pi", IDENTITY, 16384).model_copy(update={"start_tokens": 4})
    positions = np.array([0, 3, 4, 2_097_151])
    found = angles(positions, factor_set, IDENTITY)
    assert found.shape == (4, 32)
    assert found.dtype == np.float64
    plain = positions[:, None] * frequencies(IDENTITY)
    assert np.array_equal(found[:2], plain[:2])
    assert np.array_equal(found[2:], plain[2:] / 2)


def test_angles_are_exact_at_two_million() -> None:
    from fractions import Fraction

    factor_set = methods.factor_set("pi", LLAMA2, 2**21)
    found = angles([2**21 - 1], factor_set, LLAMA2)[0, 0]
    assert found == float(Fraction(2**21 - 1) / 512)
