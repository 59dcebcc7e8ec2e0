"""Whatever the format takes, a finite and exact rotation can be built from."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_factors.factor_file import bounds, schema
from longrope_factors.factor_file.bounds import Bounds
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.turns import turn_table

from tests.plugin.models import PROVENANCE

EXACT_UP_TO = 2_097_151  # DESIGN: within 1e-6 rad of the equation
LAST = bounds.LONGEST


def numbers(allowed: Bounds) -> st.SearchStrategy[float]:
    """Any number within the bounds, the ends and the usual sizes more often."""
    return (
        st.floats(allowed.least, allowed.greatest)
        | st.sampled_from([allowed.least, allowed.greatest])
        | st.floats(max(allowed.least, 0.5), min(allowed.greatest, 1e4))
    )


@st.composite
def factor_files(draw: st.DrawFn) -> FactorFile:
    pairs = draw(st.integers(1, 5))
    identity = ModelIdentity(
        name="any",
        architecture="LlamaForCausalLM",
        rotary_dim=2 * pairs,
        rope_theta=draw(numbers(bounds.THETA)),
        original_max_position_embeddings=draw(st.integers(2, bounds.LONGEST)),
    )
    factors = st.lists(numbers(bounds.FACTOR), min_size=pairs, max_size=pairs)
    sets = [
        FactorSet(
            max_length=length,
            factors=tuple(draw(factors)),
            start_tokens=draw(st.integers(0, bounds.LONGEST)),
            attention_factor=draw(numbers(bounds.ATTENTION_FACTOR)),
            provenance=PROVENANCE,
        )
        for length in sorted(draw(st.sets(st.integers(1, bounds.LONGEST), min_size=1, max_size=3)))
    ]
    return schema.build(identity, sets)


def turned(position: int, pair: int, factor_set: FactorSet, identity: ModelIdentity) -> float:
    """The angle in (-pi, pi], by 60 digits: a double's rounding is what is looked for."""
    with mpmath.workdps(60):
        exponent = mpmath.mpf(-2 * pair) / identity.rotary_dim
        angle = position * mpmath.power(mpmath.mpf(identity.rope_theta), exponent)
        if position >= factor_set.start_tokens:
            angle /= mpmath.mpf(factor_set.factors[pair])
        return float(mpmath.atan2(mpmath.sin(angle), mpmath.cos(angle)))


@pytest.mark.long
@settings(deadline=None)
@given(
    factor_files(),
    st.lists(
        st.integers(0, EXACT_UP_TO) | st.integers(0, LAST) | st.sampled_from([EXACT_UP_TO, LAST]),
        min_size=1,
        max_size=4,
    ),
)
def test_what_validates_rotates(factor_file: FactorFile, positions: list[int]) -> None:
    table = turn_table(factor_file)
    for index, factor_set in enumerate(factor_file.sets):
        packed = pack(torch.tensor(positions), torch.full((len(positions),), index))
        rotation = table.cos_sin(packed, torch.float32).double()
        assert table.cos_sin(packed, torch.float16).isfinite().all()
        cos, sin = rotation.chunk(2, dim=1)
        assert torch.hypot(cos, sin).numpy() == pytest.approx(factor_set.attention_factor, rel=1e-6)
        for row, position in enumerate(positions):
            allowed = 1e-6 * max(1.0, position / EXACT_UP_TO)
            for pair in range(cos.shape[1]):
                expected = turned(position, pair, factor_set, factor_file.model)
                error = float(torch.atan2(sin[row, pair], cos[row, pair])) - expected
                assert abs((error + np.pi) % (2 * np.pi) - np.pi) < allowed
