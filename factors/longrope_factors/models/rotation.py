"""Let a Hugging Face model rotate by any factor set."""

import contextlib
from collections.abc import Iterator

import torch

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorSet, ModelIdentity
from longrope_factors.models.reference import frequencies


class ExactRotary(torch.nn.Module):
    """Replaces a model's rotary module: cos and sin of float64 angles under one set.

    cos and sin have shape [batch, n, d] and the dtype of the hidden states. Each pair's angle is in
    both halves, as Llama and its relatives expect.
    """

    def __init__(self, factor_set: FactorSet, identity: ModelIdentity) -> None:
        super().__init__()
        self._factor_set = factor_set
        # Plain attributes, because buffers would be cast together with the model's weights.
        self._frequencies = torch.from_numpy(frequencies(identity))
        self._factors = torch.tensor(factor_set.factors, dtype=torch.float64)

    def forward(
        self, hidden: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, [batch, n, d], at `position_ids`, [batch, n], in the dtype of `hidden`."""
        n = position_ids[..., None].to(hidden.device)
        rescaled = self._frequencies / self._factors
        turning = torch.where(
            n < self._factor_set.start_tokens,
            self._frequencies.to(n.device),
            rescaled.to(n.device),
        )
        angle = (n * turning).repeat(1, 1, 2)
        scale = self._factor_set.attention_factor
        return (angle.cos() * scale).to(hidden.dtype), (angle.sin() * scale).to(hidden.dtype)


@contextlib.contextmanager
def rotated_by(
    model: torch.nn.Module, factor_set: FactorSet, identity: ModelIdentity
) -> Iterator[None]:
    """While open, `model` rotates by `factor_set`.

    Raises UsageError if the model's rotary module is missing or arranges its angles differently.
    """
    owner, name, theirs = _rotary_module(model)
    _check_layout(theirs, identity)
    setattr(owner, name, ExactRotary(factor_set, identity))
    try:
        yield
    finally:
        setattr(owner, name, theirs)


def _rotary_module(model: torch.nn.Module) -> tuple[torch.nn.Module, str, torch.nn.Module]:
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "rotary_emb"]
    if len(names) != 1:
        raise UsageError(
            f"{type(model).__name__} has {len(names)} modules named rotary_emb; a factor set can "
            "replace exactly one."
        )
    owner, _, name = names[0].rpartition(".")
    return model.get_submodule(owner), name, model.get_submodule(names[0])


def _check_layout(rotary: torch.nn.Module, identity: ModelIdentity) -> None:
    # Three positions show whether both halves hold the same angles.
    cos, _ = rotary(torch.zeros(1, 3, 1, dtype=torch.float32), torch.arange(3)[None])
    first, second = cos.chunk(2, dim=-1)
    if cos.shape[-1] != identity.rotary_dim or not torch.equal(first, second):
        raise UsageError(
            f"{type(rotary).__name__} gives {cos.shape[-1]} angles for each position, but a factor "
            f"set can replace only a rotation of rotary_dim {identity.rotary_dim} in two equal "
            "halves."
        )
