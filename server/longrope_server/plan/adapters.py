"""The room that vLLM makes on each GPU for the adapters of factor sets."""

from dataclasses import dataclass

from longrope_factors.factor_file.schema import FactorFile

from longrope_server.errors import UsageError
from longrope_server.plan.layouts import Layout, stages
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import PLAIN_BYTES

# MaxLoRARanks (config/lora.py): every slot has room for the smallest of them that covers all
# adapters' ranks.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Adapters:
    """Slots for adapters of one rank, in every linear layer of attention and MLP.

    Adapters for fewer layers take less, because the plug-in names their layers
    (`lora_target_modules`).
    """

    shape: ModelShape
    slots: int
    rank: int

    def stage_bytes(self, layout: Layout) -> list[int]:
        """Bytes that one GPU of each pipeline stage holds."""
        layer = self.slots * self.rank * self.layer(layout.tp) * PLAIN_BYTES
        return [len(stage) * layer for stage in stages(self.shape.layers, layout.pp)]

    def layer(self, tp: int) -> int:
        """How many numbers one layer holds for a slot and each of its ranks, on one of `tp` GPUs.

        Of the two matrices A and B, only the one that the layer divides is divided: B of the
        projections into attention and the MLP, A of those out of them (lora/layers, without
        --fully-sharded-loras). Q, K, V, gate and up have an A each, but the ones that Phi-3 fuses
        share an A.
        """
        shape = self.shape
        queries = shape.heads // tp * shape.head_dim
        keys = max(1, shape.kv_heads // tp) * shape.head_dim
        mlp = shape.intermediate // tp
        inputs = 2 if shape.architecture == "Phi3ForCausalLM" else 5
        return (inputs + 2) * shape.hidden + 2 * (queries + keys) + 3 * mlp


def of(shape: ModelShape, factor_file: FactorFile | None) -> Adapters:
    """Room for the adapters of the factor file's sets, as the plug-in asks for it on a GPU."""
    sets = factor_file.sets if factor_file else ()
    ranks = [factor_set.adapter.rank for factor_set in sets if factor_set.adapter is not None]
    if ranks and (shape.experts or shape.linear):
        raise UsageError(
            f"The room for adapters of {shape.architecture} is not known here: plan the model with "
            "a factor file without adapters."
        )
    greatest = max(ranks, default=0)
    return Adapters(shape, len(ranks), next(rank for rank in RANKS if rank >= greatest))
