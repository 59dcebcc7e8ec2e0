"""Whatever disturbs an engine, in any order: no request is lost, and every token is right."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from longrope_plugin import pacing
from longrope_plugin.compat import names

from tests.plugin.adapters import adapted_engine, adapted_model, adapted_reference
from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import random_prompts, scheduler
from tests.plugin.test_kv_offload import CONNECTORS, offloading

if TYPE_CHECKING:
    from vllm import LLM

LIMITS = (64, 128, 256)
AROUND_LIMITS = [3, 30, 62, 63, 64, 65, 100, 126, 127, 128, 129, 240]
STEPS = 250
UNDER_WAY = 12  # requests, at most

DRAFTS = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2}
ENGINES = {
    "async": {
        "async_scheduling": True,
        "scheduling_policy": "priority",
        "num_gpu_blocks_override": 30,  # about half of what the requests need
    },
    "drafts": {"speculative_config": DRAFTS, "num_gpu_blocks_override": 30},
    "OffloadingConnector": {"async_scheduling": True, "num_gpu_blocks_override": 30},
    "SimpleCPUOffloadConnector": {"async_scheduling": True},
}


class Disturbed:
    """An engine with requests around every limit, and what may happen to them."""

    def __init__(self, llm: "LLM", seed: int, empties_caches: bool) -> None:
        self.llm = llm
        self.core = scheduler(llm)
        self.random = random.Random(seed)
        self.shared = random_prompts([LIMITS[-1]], seed=seed)[0]  # prefixes are its beginnings
        self.prompts: dict[str, list[int]] = {}
        self.max_tokens: dict[str, int] = {}
        self.outputs: dict[str, list[int]] = {}
        self.finished: set[str] = set()
        self.aborted: set[str] = set()
        self.levels = [0, 0, 1] if empties_caches else [0]
        self.disturbances: list[Callable[[], None]] = [
            *[self.add] * 10,
            *[self.sleep] * 20,
            *(self.pause_and_wait, self.abort),
            *([self.reset_prefix_cache] if empties_caches else []),
        ]

    @property
    def under_way(self) -> list[str]:
        return [name for name in self.prompts if name not in self.finished | self.aborted]

    def run(self) -> None:
        for _ in range(STEPS):
            if self.random.random() < 0.7:
                self.random.choice(self.disturbances)()
            self.step()
        while self.llm.llm_engine.has_unfinished_requests():
            self.step()

    def step(self) -> None:
        for output in self.llm.llm_engine.step():
            self.outputs[output.request_id] = list(output.outputs[0].token_ids)
            if output.finished:
                self.finished.add(output.request_id)

    def add(self) -> None:
        from vllm import SamplingParams, TokensPrompt

        if len(self.under_way) == UNDER_WAY:
            return
        name = str(len(self.prompts))
        length = self.random.choice(AROUND_LIMITS)
        prefix = min(self.random.choice([0, 32, 64, 96]), length - 1)
        own = random_prompts([length - prefix], seed=len(self.prompts))[0]
        prompt = [*self.shared[:prefix], *own]
        if self.random.random() < 0.3:
            prompt = (prompt[:7] * length)[:length]  # its repeats make drafts
        max_tokens = min(self.random.choice([1, 2, 20, 70, 140]), LIMITS[-1] - length)
        params = SamplingParams(
            temperature=0, ignore_eos=True, detokenize=False, max_tokens=max_tokens
        )
        self.llm.llm_engine.add_request(
            name,
            TokensPrompt(prompt_token_ids=prompt),
            params,
            priority=self.random.randrange(3) if self.core.policy.value == "priority" else 0,
        )
        self.prompts[name], self.max_tokens[name] = prompt, max_tokens

    def abort(self) -> None:
        if self.under_way:
            name = self.random.choice(self.under_way)
            self.llm.llm_engine.abort_request([name])
            self.aborted.add(name)

    def reset_prefix_cache(self) -> None:
        assert self.llm.reset_prefix_cache(reset_running_requests=True)

    def sleep(self) -> None:
        self.llm.sleep(level=self.random.choice(self.levels), mode="keep")
        for _ in range(self.random.randrange(4)):
            self.step()
        self.llm.wake_up()
        self.core.set_pause_state(names.PauseState.UNPAUSED)

    def pause_and_wait(self) -> None:
        if not names.has_queue_for_pauses():
            return
        begun = {
            request_id.split("-")[0]
            for request_id, request in self.core.requests.items()
            if request.status.name != "WAITING"
        }
        self.core.set_pause_state(names.PauseState.PAUSED_NEW)
        while self.core.has_requests():
            self.step()
            if self.random.random() < 0.1:
                self.random.choice([self.add, self.abort])()
        assert begun <= self.finished | self.aborted
        self.core.set_pause_state(names.PauseState.UNPAUSED)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_and_every_token_is_right(tmp_path: Path, engine: str, seed: int) -> None:
    model = adapted_model(tmp_path / "model", 1, 2)
    reference = adapted_reference(model, {1: 1, 2: 2})
    if ON_GPU and engine in CONNECTORS:
        pytest.skip("the copies here are a CPU's")
    arguments: dict[str, Any] = {
        # Steps as long as pacing makes them on the slowest machine, so that a run can be repeated.
        "additional_config": {pacing.KEY: 1e-6},
        **ENGINES[engine],
        **(offloading(engine) if engine in CONNECTORS else {}),
    }
    on_a_cpu = CONNECTORS.get(engine, nullcontext)
    with on_a_cpu(), adapted_engine(model, **arguments) as llm:
        # vLLM refuses to empty its caches while blocks are loaded.
        disturbed = Disturbed(llm, seed, empties_caches=engine not in CONNECTORS)
        disturbed.run()
        assert scheduler(llm).promotions > 5
    assert disturbed.prompts.keys() == disturbed.finished | disturbed.aborted
    for name, output in disturbed.outputs.items():
        reference.expect(disturbed.prompts[name], output)
        assert name in disturbed.aborted or len(output) == disturbed.max_tokens[name]
