"""vLLM's own longrope layer, outside an engine."""

from types import SimpleNamespace
from unittest import mock

import torch
from longrope_factors.factor_file.schema import FactorFile
from torch import nn


def vllm_longrope(factor_file: FactorFile, head_size: int) -> nn.Module:
    """vLLM's own longrope layer with a table of all positions, bf16.

    It asks the engine's configuration for one number. Raises ImportError where vLLM is not there.
    """
    from vllm.model_executor.layers.rotary_embedding import phi3_long_rope_scaled_rope as phi3

    engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=factor_file.max_length))
    with mock.patch.object(phi3, "get_current_vllm_config", return_value=engine):
        return phi3.Phi3LongRoPEScaledRotaryEmbedding(
            head_size,
            factor_file.model.rotary_dim,
            factor_file.max_length,
            factor_file.model.original_max_position_embeddings,
            factor_file.model.rope_theta,
            True,
            torch.bfloat16,
            list(factor_file.sets[0].factors),
            list(factor_file.sets[-1].factors),
        )
