"""Model Runner V2: packs each request's set into the positions that go to the model."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from longrope_plugin.packing import pack

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.gpu.model_states.interface import ModelState as Base
    from vllm.v1.worker.gpu.states import RequestState
else:
    Base = object


class FactorSetState(Base):
    """What longrope adds to the state of a model, of whichever kind.

    factor_sets: int64 [max_num_reqs] on the host, by request slot; written when a request takes
    a slot (a preempted one takes one anew).
    packed_positions: int64 [max_num_tokens] on the device. Persistent, because a CUDA graph
    replays with the address it was captured with.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factor_sets = np.zeros(self.max_num_reqs, dtype=np.int64)
        self.packed_positions = torch.zeros(
            self.max_num_tokens, dtype=torch.int64, device=self.device
        )

    def add_request(self, req_index: int, new_req_data: "NewRequestData") -> None:
        """Notes the set of the request that takes a slot."""
        super().add_request(req_index, new_req_data)
        # The runner warms itself up with requests that no scheduler saw.
        self.factor_sets[req_index] = getattr(new_req_data, "factor_set", 0)

    def prepare_inputs(
        self, input_batch: "InputBatch", req_states: "RequestState"
    ) -> dict[str, Any]:
        """The model's inputs, the positions packed with each token's set."""
        inputs = super().prepare_inputs(input_batch, req_states)
        sets = torch.from_numpy(self.factor_sets[input_batch.idx_mapping_np]).to(self.device)
        tokens = torch.arange(
            input_batch.num_tokens, dtype=input_batch.query_start_loc.dtype, device=self.device
        )
        ends = input_batch.query_start_loc[1 : input_batch.num_reqs + 1]
        rows = torch.searchsorted(ends, tokens, right=True)
        packed = self.packed_positions[: input_batch.num_tokens_after_padding]
        packed.copy_(input_batch.positions)
        packed[: input_batch.num_tokens] = pack(packed[: input_batch.num_tokens], sets[rows])
        return {**inputs, "positions": packed}

    def prepare_dummy_inputs(self, num_reqs: int, num_tokens: int) -> dict[str, Any]:
        """The inputs of a dummy run, at the addresses of the real ones."""
        inputs = super().prepare_dummy_inputs(num_reqs, num_tokens)
        return {**inputs, "positions": self.packed_positions[:num_tokens]}


@cache
def with_factor_sets(cls: type[Any]) -> type[Any]:
    """The model state class that a model would have had, with factor sets."""
    return type(f"LongRoPE{cls.__name__}", (FactorSetState, cls), {})
