"""Pins each request to its set, keeps the KV caches of the sets apart, and promotes requests.

The life of a request: `add_request` pins it to the set that its length selects, and gives it block
hashes that no other set has (`salts`). Every step tells the workers the sets of the requests that
start or resume in it. A request that is about to outgrow its set is preempted, pinned to the next
set that covers it, and recomputed from its first token by vLLM's own resumption.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from longrope_plugin import adapters
from longrope_plugin.compat import hooks, names
from longrope_plugin.compat.names import AsyncScheduler, Request, RequestStatus, Scheduler
from longrope_plugin.drains_preempted import DrainsPreempted
from longrope_plugin.kv_connectors import handover, judgement
from longrope_plugin.kv_connectors.block_keys import BlockKeys
from longrope_plugin.pacing import Pacing
from longrope_plugin.salts import Salts
from longrope_plugin.selection import Selection

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput

logger = logging.getLogger(__name__)


class FactorSetScheduling(DrainsPreempted):
    """What longrope adds to either of vLLM's schedulers.

    A request carries three attributes of ours: `factor_set`, the index of its set, and
    `caller_salt` and `caller_adapter`, the cache salt and the LoRA adapter that came with it.
    """

    max_num_scheduled_tokens: int  # vLLM's: the tokens of one step

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        vllm_config = kwargs["vllm_config"]
        selection = Selection.from_vllm_config(vllm_config)
        assert selection is not None
        judgement.check(vllm_config, selection)  # by now vLLM has named every connector
        super().__init__(*args, **kwargs)
        self.selection: Selection = selection
        self.adapters = adapters.requests(selection)
        self.salts = Salts(
            tuple(map(selection.fingerprint, range(len(selection.factor_file.sets)))),
            first_set_is_salted=judgement.has_shared_store(self.vllm_config),
        )
        self.hands_over = judgement.hands_over(self.vllm_config)
        self.block_keys = BlockKeys(self.connector)
        self.preempted: set[Request] = set()
        self.promotions = 0
        self.most_tokens: int = self.max_num_scheduled_tokens
        self.pacing = Pacing.from_vllm_config(self.vllm_config, self.most_tokens)
        self.operators_threshold = self.scheduler_config.long_prefill_token_threshold

    def add_request(self, request: Request) -> None:
        """Pins a new request before vLLM queues it."""
        if request.request_id not in self.requests:
            request.caller_salt = request.cache_salt
            request.caller_adapter = request.lora_request
            self._pin(request, self._starting_set(request))
            self._leave_blocks_of_another_set(request)
        super().add_request(request)

    def schedule(self, *args: Any, **kwargs: Any) -> "SchedulerOutput":
        """Schedules one step: first our promotions, then vLLM's own scheduling.

        The output gets the sets of the requests that start or resume in the step.
        """
        self._preempt_outgrown()
        self._repin_preempted()
        with self._held(self._too_early_to_resume()), self.draining(), self._paced():
            output = super().schedule(*args, **kwargs)
        output.longrope_began = time.monotonic()
        for new in output.scheduled_new_reqs:
            new.factor_set = self.requests[new.req_id].factor_set
        resumed = output.scheduled_cached_reqs.resumed_req_ids
        output.resumed_factor_sets = {
            request_id: self.requests[request_id].factor_set for request_id in resumed
        }
        output.resumed_adapters = {
            request_id: self.requests[request_id].lora_request for request_id in resumed
        }
        return output

    def update_from_output(self, output: "SchedulerOutput", *args: Any, **kwargs: Any) -> Any:
        """Takes the results of a step, and notes how long it took."""
        if self.pacing is not None:
            tokens = output.num_scheduled_tokens.values()
            self.pacing.measured(tokens, output.longrope_began, time.monotonic())
        return super().update_from_output(output, *args, **kwargs)

    @contextmanager
    def _paced(self) -> Iterator[None]:
        """Limits a step's prefills, to leave time and room for other requests, now or later.

        A lone request gets as many tokens as the pacing's seconds allow. With several requests,
        each gets half of that, unless the operator has set vLLM's own threshold. Long prompts are
        prefilled one after the other: together, each would take as long as all of them, and they
        would fill the KV cache with unfinished prompts.
        """
        if self.pacing is None:
            yield
            return
        with self._held(self._behind_another_long_prompt()):
            lone = sum(self.get_request_counts()) == 1
            self.max_num_scheduled_tokens = self.pacing.tokens if lone else self.most_tokens
            if not self.operators_threshold:  # older releases apply it to lone requests too
                share = 0 if lone else self.pacing.share
                self.scheduler_config.long_prefill_token_threshold = share
            yield

    @contextmanager
    def _held(self, requests: list[Request]) -> Iterator[None]:
        """Takes requests out of the waiting queue, and puts them back at its front afterwards."""
        if requests:
            self.waiting.remove_requests(requests)
        try:
            yield
        finally:
            if requests:
                self.waiting.prepend_requests(reversed(requests))

    def _behind_another_long_prompt(self) -> list[Request]:
        """The waiting requests that must not start yet: long prompts, while another one runs.

        A more urgent one may start; only the policy `priority` lets requests be so.
        """
        urgencies = [request.priority for request in self.running if self._is_long(request)]
        if not urgencies:
            return []
        return [
            request
            for request in self.waiting
            if self._is_long(request) and request.priority >= min(urgencies)
        ]

    def _too_early_to_resume(self) -> list[Request]:
        """The waiting requests that must not resume in this step.

        Not all tokens of some are known; vLLM 0.27 and later skips those by itself. With a KV
        connector, a request must not resume in the step that reports its preemption: connectors end
        its transfers in that step, and one that it has just begun would be among them.
        """
        reported = () if self.connector is None else self.reset_preempted_req_ids
        return [
            request
            for request in self.waiting
            if request in self.preempted or request.request_id in reported
        ]

    def _is_long(self, request: Request) -> bool:
        return request.num_tokens - request.num_computed_tokens > self.selection.limit(0)

    def _starting_set(self, request: Request) -> int:
        if request.resumable:
            return self.selection.start_session()
        # For a vector, vLLM plans one new token, which it never generates.
        new_tokens = request.max_tokens if request.pooling_params is None else 0
        return self.selection.start(request.num_prompt_tokens, new_tokens)

    def _pin(self, request: Request, index: int) -> None:
        """Gives a request its set, the set's adapter, and block hashes that no other set has."""
        request.factor_set = index
        request.lora_request = self.adapters[index] or request.caller_adapter
        request.cache_salt = self.salts.salt(index, request.caller_salt, request.caller_adapter)
        request.block_hashes = []  # a new list: connectors may still be reading the old one
        request.update_block_hashes()

    def _leave_blocks_of_another_set(self, request: Request) -> None:
        """Computes a request here that would else read another engine's blocks of another set.

        The front end has refused it in a sentence, unless it did not see it. vLLM adds a refused
        request once more, to end it at once and have the other engine free the blocks: that one
        keeps its parameters.
        """
        if not self.hands_over or getattr(request, "abort_immediately", False):
            return
        fingerprint = self.selection.fingerprint(request.factor_set)
        sentence = handover.mismatch(request.kv_transfer_params, fingerprint)
        if sentence is not None:
            logger.warning("%s Request %s is computed here.", sentence, request.request_id)
            request.kv_transfer_params = None

    def _connector_finished(self, request: Request) -> tuple[bool, dict[str, Any] | None]:
        delays, params = super()._connector_finished(request)
        if self.hands_over:
            handover.state(params, self.selection.fingerprint(request.factor_set))
        return delays, params

    def _preempt_outgrown(self) -> None:
        """Preempts the running requests whose next position is past their set's limit.

        While drafts are in flight that decide it, the request is left out of the step: it would be
        computed anew for each step whose drafts are then refused.
        """
        outgrown = []
        for request in self.running:
            limit = self.selection.limit(request.factor_set)
            in_flight = request.num_output_placeholders
            length = request.num_tokens + in_flight
            if length > limit and length < request.num_prompt_tokens + request.max_tokens:
                if request.num_tokens + min(in_flight, 1) > limit:
                    outgrown.append(request)
                else:  # vLLM is about to count this step, and leaves out what must wait for later
                    request.next_decode_eligible_step = max(
                        request.next_decode_eligible_step, self.current_step + 2
                    )
            elif length + len(request.spec_token_ids) > limit:
                # Draft tokens may not cross the limit: they would be verified under this set.
                request.spec_token_ids = request.spec_token_ids[: max(limit - length, 0)]
        for request in outgrown:
            self.running.remove(request)
            self._preempt_request(request, time.monotonic())

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        # If it resumes in this very step, the V1 runner needs its tokens again.
        self.prev_step_scheduled_req_ids.discard(request.request_id)
        self.block_keys.forget_blocks(request)
        self.preempted.add(request)

    def _repin_preempted(self) -> None:
        """Promotes preempted requests that no longer fit their set, once their tokens are known.

        They need not have been preempted for outgrowing it: a request that was preempted for lack
        of memory may reach its limit with the last token that was in flight.
        """
        for request in list(self.preempted):
            if request.status == RequestStatus.PREEMPTED:
                if names.tokens_in_flight(request):
                    continue
                index = self.selection.covering(request.num_tokens)
                if index > request.factor_set:
                    self._pin(request, index)
                    self.block_keys.forget(request)
                    self.promotions += 1
            self.preempted.discard(request)


class LongRoPEScheduler(FactorSetScheduling, Scheduler):
    """vLLM's synchronous scheduler with factor sets."""


class LongRoPEAsyncScheduler(FactorSetScheduling, AsyncScheduler):
    """vLLM's asynchronous scheduler with factor sets."""


def scheduler(**kwargs: Any) -> Scheduler:
    """Makes the scheduler; `scheduler_config.scheduler_cls` names this function.

    It is not a class, because vLLM decides on asynchronous scheduling after our configuration hook.
    """
    hooks.add_prefill_progress()
    if kwargs["vllm_config"].scheduler_config.async_scheduling:
        return LongRoPEAsyncScheduler(**kwargs)
    return LongRoPEScheduler(**kwargs)
