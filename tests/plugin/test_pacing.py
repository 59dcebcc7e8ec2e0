"""Long prefills leave time for others: how many tokens fit into a step, and who goes first."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from longrope_plugin import pacing
from longrope_plugin.pacing import LEAST, Pacing

from tests.plugin.engine import engine, random_prompts, scheduler
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


@pytest.fixture
def step(clock: Clock) -> Callable[[Pacing, int, float], None]:
    def step(paced: Pacing, tokens: int, seconds: float) -> None:
        paced.began(tokens)
        clock.now += seconds
        paced.ended()

    return step


Step = Callable[[Pacing, int, float], None]


def test_the_first_step_is_vllms_own(clock: Clock) -> None:
    assert Pacing(1.0, 2048).tokens == 2048


def test_a_step_takes_as_many_tokens_as_fit_into_its_time(step: Step) -> None:
    paced = Pacing(0.5, 8192)
    for _ in range(20):
        step(paced, paced.tokens, paced.tokens / 1000)
    assert paced.tokens == pytest.approx(500, abs=1)


def test_a_fast_machine_keeps_vllms_step(step: Step) -> None:
    paced = Pacing(1.0, 2048)
    for _ in range(5):
        step(paced, 2048, 0.1)
    assert paced.tokens == 2048


def test_a_step_is_never_mostly_its_own_cost(step: Step) -> None:
    paced = Pacing(1.0, 2048)
    for _ in range(20):
        step(paced, paced.tokens, 60)
    assert paced.tokens == LEAST


def test_decoding_says_nothing_of_prefills(step: Step) -> None:
    paced = Pacing(1.0, 2048)
    step(paced, 2048, 2.0)
    before = paced.tokens
    for _ in range(50):
        step(paced, 8, 0.5)
    assert paced.tokens == before == 1024


def test_it_follows_a_context_that_grows_and_one_that_begins_again(step: Step) -> None:
    paced = Pacing(1.0, 8192)
    for thousands in range(100):
        step(paced, paced.tokens, paced.tokens * (1 + thousands) / 20_000)
    assert paced.tokens == pytest.approx(200, rel=0.05)
    for _ in range(12):
        step(paced, paced.tokens, paced.tokens / 20_000)
    assert paced.tokens == pytest.approx(8192, rel=0.01)


def test_steps_that_overlap_are_not_counted_twice(clock: Clock) -> None:
    paced = Pacing(1.0, 2048)
    for _ in range(2):
        paced.began(1000)
    for _ in range(10):
        clock.now += 2.0
        paced.ended()
        paced.began(1000)
    assert paced.tokens == pytest.approx(500, rel=0.01)


@pytest.mark.parametrize("seconds", [-1, "1", True, float("nan")])
def test_what_is_no_number_of_seconds_is_refused(seconds: object) -> None:
    config = SimpleNamespace(additional_config={pacing.KEY: seconds})
    with pytest.raises(ValueError, match="longrope_step_seconds is"):
        Pacing.from_vllm_config(config, 2048)  # type: ignore[arg-type]


def test_zero_seconds_are_no_pacing() -> None:
    config = SimpleNamespace(additional_config={pacing.KEY: 0})
    assert Pacing.from_vllm_config(config, 2048) is None  # type: ignore[arg-type]


def add(llm: Any, name: str, prompt: list[int], max_tokens: int) -> None:
    from vllm import SamplingParams, TokensPrompt

    params = SamplingParams(temperature=0, ignore_eos=True, detokenize=False, max_tokens=max_tokens)
    llm.llm_engine.add_request(name, TokensPrompt(prompt_token_ids=prompt), params)


@pytest.mark.both_runners
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_short_prompt_overtakes_and_a_second_long_one_waits(
    tmp_path: Path, asynchronous: bool
) -> None:
    model = tiny_model(tmp_path / "model", limits=(64, 128, 512))
    reference = Reference(model.directory, model.factor_file)
    first, second, short = random_prompts([500, 400, 10], seed=4)
    with engine(model, async_scheduling=asynchronous) as llm:
        add(llm, "first", first, 4)
        llm.llm_engine.step()
        add(llm, "second", second, 4)
        add(llm, "short", short, 4)
        ended: list[str] = []
        outputs: dict[str, list[int]] = {}
        while llm.llm_engine.has_unfinished_requests():
            for output in llm.llm_engine.step():
                if output.finished:
                    ended.append(output.request_id)
                    outputs[output.request_id] = list(output.outputs[0].token_ids)
            if "short" not in ended:
                computed = {
                    request.request_id.split("-")[0]: request.num_computed_tokens
                    for request in scheduler(llm).requests.values()
                }
                assert computed["first"] < len(first)
                assert computed["second"] == 0
    assert ended == ["short", "first", "second"]
    for name, prompt in (("first", first), ("second", second), ("short", short)):
        reference.expect(prompt, outputs[name])
