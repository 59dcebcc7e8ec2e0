"""Model Runner V1: packs each request's set into the positions that go to the model."""

from typing import TYPE_CHECKING, Any

import torch

from longrope_plugin.compat import GPUModelRunner
from longrope_plugin.packing import pack

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner as Base
else:
    Base = object


class FactorSetRunner(Base):
    """What longrope adds to a V1 runner, of whichever device.

    factor_sets: the set of every request the runner knows; told by the scheduler when the
    request starts or resumes, forgotten when it ends.
    """

    factor_sets: dict[str, int]

    def _update_states(self, scheduler_output: "SchedulerOutput") -> Any:
        for request_id in scheduler_output.finished_req_ids:
            self.factor_sets.pop(request_id, None)
        for new in scheduler_output.scheduled_new_reqs:
            self.factor_sets[new.req_id] = new.factor_set
        self.factor_sets.update(scheduler_output.resumed_factor_sets)
        return super()._update_states(scheduler_output)

    def _preprocess(self, scheduler_output: "SchedulerOutput", *args: Any, **kwargs: Any) -> Any:
        input_ids, embeds, positions, *rest = super()._preprocess(scheduler_output, *args, **kwargs)
        sets = [self.factor_sets[request_id] for request_id in self.input_batch.req_ids]
        if any(sets):
            scheduled = scheduler_output.total_num_scheduled_tokens
            rows = self.req_indices.gpu[:scheduled]
            positions = positions.clone()
            positions[:scheduled] = pack(
                positions[:scheduled], torch.tensor(sets, device=positions.device)[rows]
            )
        return input_ids, embeds, positions, *rest


def add_factor_sets(runner: GPUModelRunner) -> None:
    """Makes a V1 runner a FactorSetRunner as well, keeping the class its platform chose."""
    cls = type(runner)
    runner.__class__ = type(f"LongRoPE{cls.__name__}", (FactorSetRunner, cls), {})
    runner.factor_sets = {}
