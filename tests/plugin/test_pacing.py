"""Long prefills leave time for others: how many tokens fit into a step, and who goes first."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from longrope_plugin import pacing
from longrope_plugin.pacing import LEAST, Pacing

from tests.plugin.engine import engine, random_prompts, scheduler
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference


def steps(paced: Pacing, per_token: Callable[[int], float], count: int) -> None:
    """Steps of as many tokens as fit, one after the other; `per_token` says the seconds of each."""
    now = 100.0
    for number in range(count):
        tokens = paced.tokens
        began, now = now, now + tokens * per_token(number)
        paced.measured([tokens], began, now)


def test_the_first_step_is_vllms_own() -> None:
    assert Pacing(1.0, 2048).tokens == 2048


def test_a_step_takes_as_many_tokens_as_fit_into_its_time() -> None:
    paced = Pacing(0.5, 8192)
    steps(paced, lambda _: 1 / 1000, 20)
    assert paced.tokens == pytest.approx(500, abs=1)


def test_a_fast_machine_keeps_vllms_step() -> None:
    paced = Pacing(1.0, 2048)
    steps(paced, lambda _: 1 / 20_000, 5)
    assert paced.tokens == 2048


def test_a_step_is_never_mostly_its_own_cost() -> None:
    paced = Pacing(1.0, 2048)
    steps(paced, lambda _: 1.0, 20)
    assert paced.tokens == LEAST


def test_prefills_that_share_steps_are_timed_however_slow_they_were() -> None:
    paced = Pacing(1.0, 2048)
    paced.measured([70, 1, 1], 0.0, 70.0)
    assert paced.tokens == LEAST
    for number in range(20):
        paced.measured([paced.share, 1, 1], 100.0 + number, 100.1 + number)
    assert paced.share > 4 * LEAST


def test_a_small_step_is_shared_too() -> None:
    assert Pacing(1.0, 32).share == 16


@pytest.mark.parametrize("crowd", [8, 200])
def test_decoding_says_nothing_of_prefills(crowd: int) -> None:
    paced = Pacing(1.0, 2048)
    paced.measured([2048], 0.0, 2.0)
    assert paced.tokens == 1024
    for number in range(50):
        paced.measured([1] * crowd, 2.0 + number / 2, 2.5 + number / 2)
    assert paced.tokens == 1024


def test_it_follows_a_context_that_grows_and_one_that_begins_again() -> None:
    paced = Pacing(1.0, 8192)
    steps(paced, lambda thousands: (1 + thousands) / 20_000, 100)
    assert paced.tokens == pytest.approx(200, rel=0.05)
    steps(paced, lambda _: 1 / 20_000, 12)
    assert paced.tokens == pytest.approx(8192, rel=0.01)


def test_steps_that_overlap_are_not_counted_twice() -> None:
    paced = Pacing(1.0, 2048)
    for number in range(10):  # each is scheduled when the one before begins
        paced.measured([1000], 2.0 * max(number - 1, 0), 2.0 * (number + 1))
    assert paced.tokens == pytest.approx(500, rel=0.01)


@pytest.mark.parametrize("seconds", [-1, "1", True, float("nan")])
def test_what_is_no_number_of_seconds_is_refused(seconds: object) -> None:
    config = SimpleNamespace(additional_config={pacing.KEY: seconds})
    with pytest.raises(ValueError, match="longrope_step_seconds is"):
        Pacing.from_vllm_config(config, 2048)  # type: ignore[arg-type]


def test_zero_seconds_are_no_pacing() -> None:
    assert Pacing.from_vllm_config(config(0, in_parts=True), 2048) is None
    assert Pacing.from_vllm_config(config(1, in_parts=True), 2048) is not None


def test_a_prompt_that_is_read_in_one_step_is_not_paced() -> None:
    assert Pacing.from_vllm_config(config(1, in_parts=False), 2048) is None


@pytest.mark.parametrize("has_images", [True, False])
def test_a_prompt_whose_images_may_not_be_divided_is_not_paced(has_images: bool) -> None:
    """For a model whose images attend to all of themselves, vLLM sets that by itself."""
    whole_images = config(1, in_parts=True)
    whole_images.scheduler_config.disable_chunked_mm_input = True
    whole_images.scheduler_config.is_multimodal_model = has_images
    assert (Pacing.from_vllm_config(whole_images, 2048) is None) == has_images


def config(seconds: float, in_parts: bool) -> Any:
    return SimpleNamespace(
        additional_config={pacing.KEY: seconds},
        scheduler_config=SimpleNamespace(
            enable_chunked_prefill=in_parts,
            is_multimodal_model=False,
            disable_chunked_mm_input=False,
        ),
    )


@pytest.mark.both_runners
def test_long_prompts_are_read_whole_where_vllm_does_not_read_them_in_parts(
    tmp_path: Path,
) -> None:
    model = tiny_model(tmp_path / "model", limits=(64, 128, 512))
    reference = Reference(model.directory, model.factor_file)
    prompts = random_prompts([200, 500, 400], seed=5)
    whole = {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": 512,
        "additional_config": {pacing.KEY: 1e-6},  # of prompts in parts, 64 tokens a step
    }
    with engine(model, **whole) as llm:
        for prompt in prompts[:2]:  # alone: the first has timed a step, the second would be paced
            reference.expect(prompt, generated(llm, [prompt])[0])
        for prompt, tokens in zip(prompts[1:], generated(llm, prompts[1:]), strict=True):
            reference.expect(prompt, tokens)


def generated(llm: Any, prompts: list[list[int]]) -> list[list[int]]:
    for number, prompt in enumerate(prompts):
        add(llm, str(number), prompt, 4)
    outputs: dict[str, list[int]] = {}
    for _ in range(100):
        for output in llm.llm_engine.step():
            if output.finished:
                outputs[output.request_id] = list(output.outputs[0].token_ids)
    return [outputs[str(number)] for number in range(len(prompts))]


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


def test_prompts_that_are_never_alone_are_read_fast_again_after_a_slow_step(
    tmp_path: Path,
) -> None:
    model = tiny_model(tmp_path / "model", limits=(128, 256, 512))
    chunks: list[int] = []
    with engine(model, max_num_batched_tokens=512, enable_prefix_caching=False) as llm:
        paced = scheduler(llm).pacing
        paced.measured([80], 0.0, 1000.0)
        assert paced.tokens == LEAST
        for number, prompt in enumerate(random_prompts([120, 120, 120], seed=6)):
            add(llm, str(number), prompt, 4)
        with mock.patch.object(paced, "measured", lambda tokens, *_: chunks.extend(tokens)):
            while llm.llm_engine.has_unfinished_requests():
                llm.llm_engine.step()
    assert max(chunks) == LEAST
