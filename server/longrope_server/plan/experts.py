"""Layers whose MLP is a mixture of experts (Qwen3-MoE, Qwen3.5-MoE)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.files.strict_json import shown
from longrope_factors.factor_file.hf_fields import length


@dataclass(frozen=True)
class Experts:
    """The experts of a sparse layer.

    count: how many there are. chosen: how many each token passes. width: of the MLP of one. shared:
    the width of an MLP that every token passes beside them, 0 without one. sparse: for each layer,
    whether it has experts in place of an MLP.
    """

    count: int
    chosen: int
    width: int
    shared: int
    sparse: tuple[bool, ...]

    def linear(self, hidden: int, tp: int) -> int:
        """Weights of all experts of a layer on one of `tp` ranks, each of which has a part of all.

        This is without expert parallelism (FusedMoE, model_executor/layers/fused_moe).
        """
        return 3 * hidden * (self.count * self.width + self.shared) // tp

    def active(self, hidden: int, tp: int) -> int:
        """The weights that one token passes."""
        return 3 * hidden * (self.chosen * self.width + self.shared) // tp

    def small(self, hidden: int) -> int:
        """Weights of the router, and of the gate of the shared MLP; every rank has them."""
        return hidden * (self.count + (self.shared > 0))

    @property
    def widths(self) -> tuple[int, ...]:
        """What tensor parallelism divides."""
        return (self.width, self.shared) if self.shared else (self.width,)


def from_config(values: Mapping[str, Any], layers: int) -> Experts | None:
    """The experts of a config of a mixture of experts; None if there are none.

    Raises FactorFileError naming a field that is missing or unusable.
    """
    if not (count := length(values.get("num_experts"), "num_experts", 0)):
        return None
    only_mlp = values.get("mlp_only_layers") or []
    if not isinstance(only_mlp, list):
        raise FactorFileError(
            f"The model's config has mlp_only_layers {shown(only_mlp)}; it should be a list."
        )
    step = length(values.get("decoder_sparse_step", 1), "decoder_sparse_step")
    return Experts(
        count=count,
        chosen=length(values.get("num_experts_per_tok"), "num_experts_per_tok"),
        width=length(values.get("moe_intermediate_size"), "moe_intermediate_size"),
        shared=length(
            values.get("shared_expert_intermediate_size") or 0, "shared_expert_intermediate_size", 0
        ),
        sparse=tuple(layer not in only_mlp and (layer + 1) % step == 0 for layer in range(layers)),
    )
