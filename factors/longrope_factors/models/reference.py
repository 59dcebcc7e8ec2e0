"""The rotation in float64: the reference for every faster implementation."""

import numpy as np
import numpy.typing as npt

from longrope_factors.factor_file.schema import FactorSet, ModelIdentity


def frequencies(identity: ModelIdentity) -> npt.NDArray[np.float64]:
    """theta^(-2i/d) for dimension pairs i in 0..d/2-1: radians per token, shape [d/2]."""
    pair = np.arange(identity.rotary_dim // 2, dtype=np.float64)
    return identity.rope_theta ** (-2.0 * pair / identity.rotary_dim)


def angles(
    positions: npt.ArrayLike, factor_set: FactorSet, identity: ModelIdentity
) -> npt.NDArray[np.float64]:
    """Angles in radians, shape [n, d/2], at `positions` (shape [n], counted from 0).

    angle(n, i) = n * theta^(-2i/d) * (1 if n < start_tokens else 1 / factors[i]).
    LongRoPE, arXiv 2402.13753, equation 3.
    """
    n = np.asarray(positions, dtype=np.int64)[:, None]
    scale = np.where(n < factor_set.start_tokens, 1.0, 1.0 / np.asarray(factor_set.factors))
    return n * frequencies(identity) * scale
