"""Replaces the rotary module of models that vLLM builds out of transformers.

vLLM's transformers backend (`--model-impl transformers`, and every architecture that vLLM does not
implement itself) keeps Hugging Face's modules. One of them turns positions into cos and sin for all
layers, and the layers apply them, so this is the module that has to know about factor sets.
"""

from collections.abc import Callable

import torch
from longrope_factors.factor_file.schema import FactorFile
from torch import nn

from longrope_plugin.rotation.turns import TurnTable, turn_table

# How a module of transformers lays out the angles of a position, one for each dimension pair.
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "halves": lambda angles: torch.cat((angles, angles), dim=-1),
    "interleaved": lambda angles: angles.repeat_interleave(2, dim=-1),
    "single": lambda angles: angles,
}


class TransformersRotaryEmbedding(nn.Module):
    """cos and sin of packed positions, as the module that it replaces lays them out.

    layout: a key of `LAYOUTS`. dtype: that of the replaced module's results.
    """

    def __init__(self, table: TurnTable, layout: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.layout = layout
        self.dtype = dtype
        self.register_buffer("turns", table.turns, persistent=False)
        self.register_buffer("start_tokens", table.start_tokens, persistent=False)
        self.register_buffer("attention_factor", table.attention_factor, persistent=False)

    def forward(
        self, hidden: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, [batch, n, width], at packed `position_ids`, int64 [batch, n]."""
        table = TurnTable(self.turns, self.start_tokens, self.attention_factor)
        cos_sin = table.cos_sin(position_ids.flatten(), self.dtype)
        cos, sin = cos_sin.view(*position_ids.shape, -1).chunk(2, dim=-1)
        laid_out = LAYOUTS[self.layout]
        return laid_out(cos), laid_out(sin)


def replace_rotary_modules(model: nn.Module, factor_file: FactorFile, dtype: torch.dtype) -> None:
    """Replaces every rotary module of transformers in `model` with ours.

    dtype: that of the hidden states. Raises ValueError, a sentence, for a module that rotates by
    anything other than the factors of its config.
    """
    theirs = [(name, module) for name, module in model.named_modules() if is_rotary(module)]
    for name, module in theirs:
        layout, returned = _layout(name, module, factor_file, dtype)
        with module.inv_freq.device:
            ours = TransformersRotaryEmbedding(turn_table(factor_file), layout, returned)
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, ours)


def is_rotary(module: nn.Module) -> bool:
    """Whether a module is one of transformers' rotary modules: they hold inverse frequencies."""
    return any("inv_freq" in name for name, _ in module.named_buffers(recurse=False))


def _layout(
    name: str, module: nn.Module, factor_file: FactorFile, dtype: torch.dtype
) -> tuple[str, torch.dtype]:
    """The layout and dtype of a module's results, after a check that its angles are the config's.

    The first list of a config is that of the first set. The scale of cos and sin is not compared.
    Raises ValueError, a sentence, if the angles differ.
    """
    first = factor_file.model_copy(
        update={"sets": (factor_file.sets[0].model_copy(update={"start_tokens": 0}),)}
    )
    with module.inv_freq.device:
        positions = torch.arange(4)
        try:
            cos, sin = module(torch.zeros(1, 4, 1, dtype=dtype), position_ids=positions[None])
        except (TypeError, ValueError, AttributeError, LookupError):
            raise _refusal(name, module, "does not compute cos and sin from positions") from None
        expected = turn_table(first).cos_sin(positions, torch.float32)
        expected = expected / first.sets[0].attention_factor
    scale = cos.flatten()[0].float()
    for layout, laid_out in LAYOUTS.items():
        wanted = torch.cat([laid_out(part) for part in expected.chunk(2, dim=-1)], dim=-1)
        given = torch.cat((cos[0], sin[0]), dim=-1).float() / scale
        if wanted.shape == given.shape and torch.allclose(
            wanted, given, atol=4 * torch.finfo(cos.dtype).eps
        ):
            return layout, cos.dtype
    raise _refusal(name, module, "computes other angles than the factors in its config")


def _refusal(name: str, module: nn.Module, reason: str) -> ValueError:
    return ValueError(
        f"Layer {name} is a {type(module).__name__} of transformers, which {reason}: this model "
        "cannot be served with per-request factor sets through vLLM's transformers backend."
    )
