"""The room that vLLM makes for the adapters of factor sets, on each GPU."""

from dataclasses import dataclass

from longrope_factors.schema import FactorFile

from longrope_server.plan.layouts import Layout, stages
from longrope_server.plan.model_shape import ModelShape
from longrope_server.plan.weights import PLAIN_BYTES

# MaxLoRARanks (config/lora.py): every slot has room for the least that holds all ranks.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Whose embedding table and output can have LoRA (`embedding_modules` of the models' classes): there
# is room for it although no adapter of a factor set uses it.
_WITH_EMBEDDINGS = (
    *("LlamaForCausalLM", "Phi3ForCausalLM"),
    *("Qwen3ForCausalLM", "MiniCPMForCausalLM"),
)


@dataclass(frozen=True)
class Adapters:
    """So many slots of a rank, for every linear layer whatever the adapters train."""

    shape: ModelShape
    slots: int
    rank: int

    def stage_bytes(self, layout: Layout) -> list[int]:
        """Bytes that one GPU of each pipeline stage holds: embeddings first, output last."""
        layer = self.layer(layout.tp)
        sizes = [len(stage) * layer for stage in stages(self.shape.layers, layout.pp)]
        sizes[0] += self.table
        sizes[-1] += self.table
        if self.shape.tied and layout.pp > 1:
            sizes[-1] += self.table  # the last stage has an embedding table too, for the output
        return [self.slots * self.rank * each * PLAIN_BYTES for each in sizes]

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

    @property
    def table(self) -> int:
        """The same of the embedding table, and of the output; every rank has all of them."""
        has_room = self.shape.architecture in _WITH_EMBEDDINGS
        return has_room * (self.shape.vocabulary + self.shape.hidden)


def of(shape: ModelShape, factor_file: FactorFile | None) -> Adapters:
    """Room for the adapters of the factor file's sets, as the plug-in asks for it on a GPU."""
    sets = factor_file.sets if factor_file else ()
    ranks = [each.adapter.rank for each in sets if each.adapter is not None]
    greatest = max(ranks, default=0)
    return Adapters(shape, len(ranks), next(rank for rank in RANKS if rank >= greatest))
