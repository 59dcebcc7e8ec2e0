"""The room that vLLM makes for the adapters of factor sets, on each GPU."""

from dataclasses import dataclass

from longrope_factors.factor_file.schema import FactorFile

from longrope_server.plan.layouts import Layout, stages
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import PLAIN_BYTES

# MaxLoRARanks (config/lora.py): every slot has room for the least that holds all ranks.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Adapters:
    """So many slots of a rank, for every linear layer of attention and MLP.

    Adapters that are for fewer layers take less: the plug-in names theirs (`lora_target_modules`).
    """

    shape: ModelShape
    slots: int
    rank: int

    def stage_bytes(self, layout: Layout) -> list[int]:
        """Bytes that one GPU of each pipeline stage holds."""
        layer = self.slots * self.rank * self.layer(layout.tp) * PLAIN_BYTES
        return [len(stage) * layer for stage in stages(self.shape.layers, layout.pp)]

    def layer(self, tp: int) -> int:
        """Numbers for a slot and each of its ranks in one layer, on one of `tp` GPUs.

        Of a pair only the matrix is divided that the layer divides: B of what goes into attention
        and the MLP, A of what comes out (lora/layers, without --fully-sharded-loras). Each of Q,
        K, V, gate and up has an A, but the fused ones of Phi-3 have one together.
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
    ranks = [each.adapter.rank for each in sets if each.adapter is not None]
    greatest = max(ranks, default=0)
    return Adapters(shape, len(ranks), next(rank for rank in RANKS if rank >= greatest))
