"""Model Runner V2: packs each request's set into the positions that go to the model."""

from abc import ABC
from typing import TYPE_CHECKING, Any

import torch

from longrope_plugin.compat.names import StagedWriteTensor
from longrope_plugin.rotation.packing import pack, unpack
from longrope_plugin.rotation.packing_triton import pack_batch

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.gpu.model_states.interface import ModelState as Base
    from vllm.v1.worker.gpu.states import RequestState
else:
    Base = ABC  # as for vLLM's own states, so that a state's class can be changed below


class FactorSetState(Base):
    """What longrope adds to a model's state of any kind.

    factor_sets: int32 [max_num_reqs] on the device, by request slot; written when a request takes
    a slot (a preempted request takes a new one when it resumes).
    packed_positions: int64 [max_num_tokens] on the device; packed_rows: int64 [rows,
    max_num_tokens + 1], for a model whose tokens have several positions (M-RoPE). Persistent,
    because a CUDA graph replays with the address that it was captured with.
    """

    factor_sets: StagedWriteTensor
    packed_positions: torch.Tensor
    packed_rows: torch.Tensor | None

    def add_request(self, req_index: int, new_req_data: "NewRequestData") -> None:
        """Notes the set of the request that takes a slot."""
        super().add_request(req_index, new_req_data)
        # The runner warms itself up with requests that no scheduler has seen.
        self.factor_sets.stage_write_elem(req_index, getattr(new_req_data, "factor_set", 0))

    def apply_staged_writes(self) -> None:
        """Sends the noted sets to the device, queued behind its current work."""
        super().apply_staged_writes()
        self.factor_sets.apply_write()

    def prepare_inputs(
        self, input_batch: "InputBatch", req_states: "RequestState"
    ) -> dict[str, Any]:
        """The model's inputs, with each token's set packed into its position."""
        inputs = super().prepare_inputs(input_batch, req_states)
        packed = self.packed_positions[: input_batch.num_tokens_after_padding]
        pack_batch(
            input_batch.positions,
            self.factor_sets.gpu,
            input_batch.idx_mapping[: input_batch.num_reqs],
            input_batch.query_start_loc,
            packed,
        )
        if self.packed_rows is not None:
            sets = unpack(packed)[1]
            packed = self.packed_rows[:, : packed.shape[0]]
            packed.copy_(pack(inputs["positions"], sets))
        return {**inputs, "positions": packed}

    def prepare_dummy_inputs(self, num_reqs: int, num_tokens: int) -> dict[str, Any]:
        """The inputs of a dummy run, at the addresses of real inputs."""
        inputs = super().prepare_dummy_inputs(num_reqs, num_tokens)
        packed = self.packed_positions if self.packed_rows is None else self.packed_rows
        return {**inputs, "positions": packed[..., :num_tokens]}


def add_factor_sets(state: "Base") -> None:
    """Makes a model's state a FactorSetState as well, keeping the class that vLLM chose."""
    cls = type(state)
    state.__class__ = type(f"LongRoPE{cls.__name__}", (FactorSetState, cls), {})
    state.factor_sets = StagedWriteTensor(
        state.max_num_reqs, dtype=torch.int32, device=state.device
    )
    state.packed_positions = torch.zeros(
        state.max_num_tokens, dtype=torch.int64, device=state.device
    )
    state.packed_rows = (
        torch.zeros_like(state.rope_state.positions) if state.model_config.uses_mrope else None
    )
