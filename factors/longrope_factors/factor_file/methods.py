"""The analytic methods: they compute factors from the extension ratio, without a search.

Throughout, the extension ratio s is the target length over the original length.
"""

import datetime
import math
from typing import NamedTuple

from longrope_factors import __version__
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import (
    ANALYTIC,
    FactorSet,
    Method,
    ModelIdentity,
    Provenance,
)

METHODS = ANALYTIC
# Turns within the original length (YaRN's beta and alpha for LLaMA): a pair with more turns than
# the first is left alone, a pair with fewer than the second is fully interpolated.
_YARN_FAST, _YARN_SLOW = 32.0, 1.0


class Rescaling(NamedTuple):
    """The result of a method: one factor for each dimension pair, and the attention factor."""

    factors: tuple[float, ...]
    attention_factor: float


def original(identity: ModelIdentity, ratio: float) -> Rescaling:
    """The rotation that the model was trained with: every factor 1, at any ratio."""
    return Rescaling((1.0,) * (identity.rotary_dim // 2), 1.0)


def pi(identity: ModelIdentity, ratio: float) -> Rescaling:
    """Position interpolation: every factor s (arXiv 2306.15595, equation 4)."""
    return Rescaling((float(ratio),) * (identity.rotary_dim // 2), 1.0)


def ntk(identity: ModelIdentity, ratio: float) -> Rescaling:
    """NTK-aware: l_i = s^(2i/(d-2)), from 1 for the fastest pair to s for the slowest.

    This is the same rotation as with a base of theta * s^(d/(d-2)) (arXiv 2309.00071, section 3.1).
    Raises FactorFileError for a rotary dimension of 2, where the exponent is undefined.
    """
    if identity.rotary_dim == 2:
        raise FactorFileError("ntk needs a rotary_dim above 2, because its exponent is 2i/(d-2).")
    # Our files were made with numpy's powers. Planning and serving should not import numpy.
    import numpy as np

    pair = np.arange(identity.rotary_dim // 2)
    factors = ratio ** (2 * pair / (identity.rotary_dim - 2))
    return Rescaling(tuple(map(float, factors)), 1.0)


def yarn(identity: ModelIdentity, ratio: float, truncate: bool = False) -> Rescaling:
    """YaRN: 1 for pairs that turn over 32 times within the original length, s for less than once.

    Between the two, 1/l_i falls from 1 to 1/s in equal steps of i. `truncate` is the field of that
    name of transformers' `_compute_yarn_parameters`, where true is the default, as it is in vLLM:
    the two ends of the ramp are first rounded outwards to whole pairs. Static YaRN of a model whose
    config has only a factor, such as Qwen's, is that. (In the paper's equation 13, the ramp is
    linear in the number of turns instead of in i.) The attention factor is 0.1 ln s + 1.
    arXiv 2309.00071, section 3.4.
    """
    factors = yarn_factors(
        identity.rotary_dim,
        identity.rope_theta,
        identity.original_max_position_embeddings,
        ratio,
        (_YARN_FAST, _YARN_SLOW),
        truncate,
    )
    return Rescaling(factors, 0.1 * math.log(ratio) + 1.0)


def yarn_factors(
    rotary_dim: int,
    theta: float,
    window: int,
    ratio: float,
    turns: tuple[float, float],
    truncate: bool,
) -> tuple[float, ...]:
    """YaRN's rotary_dim/2 factors at extension ratio `ratio` from a window of `window` tokens.

    Pairs that turn more often within the window than the first of `turns` keep their rotation;
    pairs that turn less often than the second are fully interpolated. `truncate` rounds the two
    ends of the ramp outwards to whole pairs.
    """

    def pair_that_turns(times: float) -> float:
        return rotary_dim * math.log(window / (2 * math.pi * times)) / (2 * math.log(theta))

    low, high = map(pair_that_turns, turns)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0.0), min(high, rotary_dim - 1.0)
    if low == high:
        high += 0.001
    ramp = [min(max((pair - low) / (high - low), 0.0), 1.0) for pair in range(rotary_dim // 2)]
    return tuple(1.0 / ((1.0 - share) + share / ratio) for share in ramp)


def rescale(
    method: Method, identity: ModelIdentity, ratio: float, truncate: bool = False
) -> Rescaling:
    """Factors and attention factor of the named analytic method at extension ratio `ratio`.

    `truncate` is for yarn: the other methods have no ramp. Raises FactorFileError for a method that
    is not analytic and for a ratio below 1, except for `original`, which ignores the ratio.
    """
    if ratio < 1 and method != "original":
        raise FactorFileError(
            f"{method} at an extension ratio of {ratio:.6g} would shrink the window: the length "
            f"should be at least the original length, {identity.original_max_position_embeddings}."
        )
    match method:
        case "original":
            return original(identity, ratio)
        case "pi":
            return pi(identity, ratio)
        case "ntk":
            return ntk(identity, ratio)
        case "yarn":
            return yarn(identity, ratio, truncate)
    raise FactorFileError(f"{method} factors come from a search: they have no formula.")


def named(name: str) -> Method:
    """The analytic method called `name`.

    Raises FactorFileError, listing the methods, for any other name.
    """
    for method in METHODS:
        if name == method:
            return method
    raise FactorFileError(f"{name!r} is not an analytic method: use one of {', '.join(METHODS)}.")


def factor_set(
    method: Method, identity: ModelIdentity, max_length: int, truncate: bool = False
) -> FactorSet:
    """The factor set of an analytic method for sequences of up to `max_length` tokens."""
    window = identity.original_max_position_embeddings
    ratio = max_length / window
    rescaling = rescale(method, identity, ratio, truncate)
    name = "yarn, truncated," if method == "yarn" and truncate else method
    return FactorSet(
        max_length=max_length,
        factors=rescaling.factors,
        start_tokens=0,
        attention_factor=rescaling.attention_factor,
        provenance=Provenance(
            method=method,
            source=f"{name} at extension ratio {ratio:g} from original length {window}",
            date=datetime.date.today().isoformat(),
            tool_version=__version__,
        ),
    )
