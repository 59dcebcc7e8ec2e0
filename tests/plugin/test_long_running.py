"""Engines that run for long: emptied, paused, paced and with priorities while they serve."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from longrope_plugin.compat import names

from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import STEPS, counter, engine, random_prompts, scheduler
from tests.plugin.models import TinyModel
from tests.plugin.reference import Reference

if TYPE_CHECKING:
    from vllm import LLM

LENGTHS = [40, 60, 61, 100, 120]
MAX_TOKENS = [100, 30, 60, 60, 90]
PROMOTIONS = 2 + 1 + 1 + 1 + 1


@pytest.fixture(scope="module", params=STEPS)
def llm(request: pytest.FixtureRequest, model: TinyModel) -> "Iterator[LLM]":
    """An engine whose KV cache holds about half of the requests below."""
    with engine(
        model,
        async_scheduling=request.param == "async",
        scheduling_policy="priority",
        num_gpu_blocks_override=14,
    ) as llm:
        yield llm


class Serving:
    """The same requests under way in an engine; all are promoted, one twice."""

    def __init__(self, llm: "LLM", priorities: tuple[int, ...] = (0,) * 5) -> None:
        from vllm import SamplingParams, TokensPrompt

        assert llm.reset_prefix_cache()
        self.llm = llm
        self.promotions = scheduler(llm).promotions
        self.prompts = dict(zip("abcde", random_prompts(LENGTHS, seed=30), strict=True))
        self.outputs: dict[str, list[int]] = {}
        for name, max_tokens, priority in zip("abcde", MAX_TOKENS, priorities, strict=True):
            params = SamplingParams(
                temperature=0, ignore_eos=True, detokenize=False, max_tokens=max_tokens
            )
            prompt = TokensPrompt(prompt_token_ids=self.prompts[name])
            llm.llm_engine.add_request(name, prompt, params, priority=priority)

    def step(self) -> None:
        """One step of the engine; notes the requests that end with it, in order."""
        for output in self.llm.llm_engine.step():
            if output.finished:
                self.outputs[output.request_id] = list(output.outputs[0].token_ids)

    def run(self, after: Callable[[int], None] = lambda step: None) -> None:
        """Steps to the end. after: is called with the number of each step."""
        step = 0
        while self.llm.llm_engine.has_unfinished_requests():
            self.step()
            after(step)
            step += 1
            assert step < 2000

    def expect(self, reference: Reference) -> None:
        """Asserts that every token is right, and that the requests were promoted on the way."""
        for name, prompt in self.prompts.items():
            reference.expect(prompt, self.outputs[name])
        assert scheduler(self.llm).promotions - self.promotions == PROMOTIONS


@pytest.mark.parametrize("every", [pytest.param(4, marks=pytest.mark.both_runners), 25])
def test_the_prefix_cache_is_reset_under_running_requests(
    llm: "LLM", reference: Reference, every: int
) -> None:
    """Every request is preempted, and its tokens in flight are dropped."""
    serving = Serving(llm)

    def reset(step: int) -> None:
        if step % every == 0 and step < 15 * every:
            assert llm.reset_prefix_cache(reset_running_requests=True)

    serving.run(after=reset)
    serving.expect(reference)


@pytest.mark.skipif(ON_GPU, reason="needs an engine with enable_sleep_mode")
@pytest.mark.parametrize(("level", "every"), [(0, 11), (1, 11), (0, 1)])
def test_asleep_and_awake_again(llm: "LLM", reference: Reference, level: int, every: int) -> None:
    """A CPU keeps its memory at level 1; its scheduler sleeps and its caches are emptied."""
    serving = Serving(llm)

    def sleep(step: int) -> None:
        if step % every == every - 1:
            llm.sleep(level=level, mode="keep")
            for _ in range(3):  # what is in flight ends
                serving.step()
            llm.wake_up(tags=None if level else ["scheduling"])

    serving.run(after=sleep)
    serving.expect(reference)


@pytest.mark.skipif(not names.has_queue_for_pauses(), reason="needs vLLM 0.32")
@pytest.mark.parametrize("pause_at", [3, pytest.param(12, marks=pytest.mark.both_runners), 30])
def test_a_pause_waits_for_promoted_requests_too(
    llm: "LLM", reference: Reference, pause_at: int
) -> None:
    """Also for those that were preempted for lack of memory; the others wait for its end."""
    serving = Serving(llm)
    for _ in range(pause_at):
        serving.step()
    core, ended = scheduler(llm), set(serving.outputs)
    begun = {
        request_id.split("-")[0]
        for request_id, request in core.requests.items()
        if request.status.name != "WAITING"
    }
    core.set_pause_state(names.PauseState.PAUSED_NEW)
    while core.has_requests():
        serving.step()
    assert begun == serving.outputs.keys() - ended
    assert core.promotions > serving.promotions
    core.set_pause_state(names.PauseState.UNPAUSED)
    serving.run()
    serving.expect(reference)


def test_prefills_wait_for_their_turn(llm: "LLM", reference: Reference) -> None:
    """`--prefill-schedule-interval 3`, which vLLM 0.32 has for data parallel models only."""
    core = llm.llm_engine.engine_core.engine_core
    throttled = itertools.cycle([False, True, True])
    serving = Serving(llm)
    with mock.patch.object(core, "_should_throttle_prefills", side_effect=throttled):
        serving.run()
    serving.expect(reference)


def test_the_urgent_preempt_the_others(llm: "LLM", reference: Reference) -> None:
    preemptions = counter(llm, "vllm:num_preemptions")
    serving = Serving(llm, priorities=(4, 3, 2, 1, 0))
    serving.run()
    serving.expect(reference)
    assert counter(llm, "vllm:num_preemptions") - preemptions > PROMOTIONS
    assert next(iter(serving.outputs)) != "a"


def test_an_urgent_long_prompt_does_not_wait_for_another(llm: "LLM", reference: Reference) -> None:
    from vllm import SamplingParams, TokensPrompt

    prompts = dict(zip("abc", random_prompts([190, 180, 170], seed=31), strict=True))
    params = SamplingParams(temperature=0, ignore_eos=True, detokenize=False, max_tokens=4)
    outputs: dict[str, list[int]] = {}
    for name, priority in (("a", 1), ("b", 2), ("c", 0)):
        prompt = TokensPrompt(prompt_token_ids=prompts[name])
        llm.llm_engine.add_request(name, prompt, params, priority=priority)
        llm.llm_engine.step()
    computed = {
        request.request_id.split("-")[0]: request.num_computed_tokens
        for request in scheduler(llm).requests.values()
    }
    assert computed["a"] < len(prompts["a"])
    assert computed["b"] == 0 < computed["c"]
    while llm.llm_engine.has_unfinished_requests():
        for output in llm.llm_engine.step():
            if output.finished:
                outputs[output.request_id] = list(output.outputs[0].token_ids)
    for name, prompt in prompts.items():
        reference.expect(prompt, outputs[name])
