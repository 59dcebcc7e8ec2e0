"""Model Runner V1: packs each request's set into the positions that go to the model.

It also preserves the random state of a seeded request over the steps of its prefill.
"""

import copy
from typing import TYPE_CHECKING, Any

import torch

from longrope_plugin.compat.names import GPUModelRunner
from longrope_plugin.rotation.packing import pack

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.utils import CpuGpuBuffer
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner as Base
else:
    Base = object


class FactorSetRunner(Base):
    """What longrope adds to a V1 runner on any device.

    factor_sets: the set of every request that the runner knows. The scheduler sends it when the
    request starts or resumes; it is removed when the request ends.
    row_factor_sets: int64 [max_num_reqs], the sets of a batch's rows, on the host and the device.
    packed_positions: int64 [max_num_tokens] on the device, or [rows, max_num_tokens + 1] for a
    model whose tokens have several positions (M-RoPE). Persistent, because a CUDA graph replays
    with the address that it was captured with.
    """

    factor_sets: dict[str, int]
    row_factor_sets: "CpuGpuBuffer"
    packed_positions: torch.Tensor
    positions: torch.Tensor  # vLLM's: plain
    mrope_positions: "CpuGpuBuffer"  # vLLM's, in place of them where tokens have several

    def _update_states(self, scheduler_output: "SchedulerOutput") -> Any:
        for request_id in scheduler_output.finished_req_ids:
            self.factor_sets.pop(request_id, None)
        for new in scheduler_output.scheduled_new_reqs:
            self.factor_sets[new.req_id] = new.factor_set
        self.factor_sets.update(scheduler_output.resumed_factor_sets)
        for request_id, adapter in scheduler_output.resumed_adapters.items():
            self.requests[request_id].lora_request = adapter
        return super()._update_states(scheduler_output)

    def _preprocess(self, scheduler_output: "SchedulerOutput", *args: Any, **kwargs: Any) -> Any:
        input_ids, embeds, positions, *rest = super()._preprocess(scheduler_output, *args, **kwargs)
        sets = [self.factor_sets[request_id] for request_id in self.input_batch.req_ids]
        self.row_factor_sets.np[: len(sets)] = sets
        row_factor_sets = self.row_factor_sets.copy_to_gpu(len(sets))
        scheduled = scheduler_output.total_num_scheduled_tokens
        packed = self.packed_positions[..., : positions.shape[-1]]
        packed[..., :scheduled] = pack(
            positions[..., :scheduled], row_factor_sets[self.req_indices.gpu[:scheduled]]
        )
        packed[..., scheduled:] = 0
        return input_ids, embeds, packed, *rest

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        """Samples every row, but leaves the generators of discarded rows as they were."""
        states = {
            row: generator.get_state() for row, generator in self._discarded_generators().items()
        }
        output = super()._sample(*args, **kwargs)
        for row, state in states.items():
            self.input_batch.generators[row].set_state(state)
        return output

    def _bookkeeping_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Hides from vLLM the generators that `_sample` has restored.

        vLLM would rewind them by an offset. A CPU's generators have no offset: they would raise,
        and the engine would end.
        """
        discarded = self._discarded_generators()
        for row in discarded:
            del self.input_batch.generators[row]
        try:
            return super()._bookkeeping_sync(*args, **kwargs)
        finally:
            self.input_batch.generators.update(discarded)

    def _discarded_generators(self) -> dict[int, torch.Generator]:
        """Generators by row, for rows whose token is discarded because their prompt continues."""
        is_discarded = self.discard_request_mask.np
        return {
            row: generator
            for row, generator in self.input_batch.generators.items()
            if is_discarded[row]
        }

    def _dummy_run(self, *args: Any, **kwargs: Any) -> Any:
        """A dummy run with the addresses of real runs, because CUDA graphs are captured here."""
        name, packed = "positions", self.packed_positions
        if self.uses_mrope:
            name, packed = "mrope_positions", copy.copy(self.mrope_positions)
            packed.gpu = self.packed_positions
        plain = getattr(self, name)
        setattr(self, name, packed)
        try:
            return super()._dummy_run(*args, **kwargs)
        finally:
            setattr(self, name, plain)


def add_factor_sets(runner: GPUModelRunner) -> None:
    """Makes a V1 runner a FactorSetRunner as well, keeping the class its platform chose."""
    cls = type(runner)
    runner.__class__ = type(f"LongRoPE{cls.__name__}", (FactorSetRunner, cls), {})
    runner.factor_sets = {}
    runner.row_factor_sets = runner._make_buffer(runner.max_num_reqs, dtype=torch.int64)
    plain = runner.mrope_positions.gpu if runner.uses_mrope else runner.positions
    runner.packed_positions = torch.zeros_like(plain)
