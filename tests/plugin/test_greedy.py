"""Greedy tokens equal Hugging Face's for each sequence alone with its set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from longrope_plugin.scheduler import LongRoPEAsyncScheduler, LongRoPEScheduler

from tests.plugin.conftest import ON_GPU, ON_V2
from tests.plugin.engine import STEPS, counter, engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners


@pytest.fixture(scope="module")
def reference(model: TinyModel) -> Iterator[Reference]:
    reference = Reference(model.directory, model.factor_file)
    yield reference
    print(f"\n{reference.excused} of {reference.compared} tokens were excused as ties")


@pytest.fixture(scope="module", params=STEPS)
def llm(request: pytest.FixtureRequest, model: TinyModel) -> Iterator[Any]:
    with engine(model, async_scheduling=request.param == "async") as llm:
        yield llm


def test_model_tells_the_sets_apart(reference: Reference) -> None:
    (prompt,) = random_prompts([60], seed=9)
    best = [reference.logits(prompt, index, 40).argmax(-1) for index in range(3)]
    assert (best[0] != best[1]).sum() > 10
    assert (best[1] != best[2]).sum() > 10


def test_runner_and_scheduler_are_those_asked_for(llm: Any, request: pytest.FixtureRequest) -> None:
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.model_runner
    assert ("gpu.model_runner" in str(type(runner).__mro__)) == ON_V2
    is_async = request.node.callspec.params["llm"] == "async"
    assert type(scheduler(llm)) is (LongRoPEAsyncScheduler if is_async else LongRoPEScheduler)


def test_one_batch_around_every_limit(llm: Any, reference: Reference) -> None:
    lengths = [5, 63, 64, 65, 127, 128, 129, 200]
    before = scheduler(llm).promotions
    outputs = tokens(generate(llm, prompts := random_prompts(lengths), max_tokens=8))
    for prompt, output in zip(prompts, outputs, strict=True):
        assert len(output) == 8
        reference.expect(prompt, output)
    assert scheduler(llm).promotions - before == 4  # 63, 64, 127 and 128 grow past their sets


def test_last_token_on_the_limit_needs_no_promotion(llm: Any, reference: Reference) -> None:
    before = scheduler(llm).promotions
    prompts = random_prompts([60, 61, 62], seed=1)
    outputs = tokens(generate(llm, prompts, max_tokens=[5, 4, 4]))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert scheduler(llm).promotions - before == 1  # only 62 + 4 feeds a 65th token back


def test_promoted_twice_beside_neighbours(llm: Any, reference: Reference) -> None:
    before = scheduler(llm).promotions
    prompts = random_prompts([40, 100, 20, 30, 150, 10], seed=2)
    outputs = tokens(generate(llm, prompts, max_tokens=[120, 60, 20, 50, 30, 8]))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert scheduler(llm).promotions - before == 2 + 1 + 0 + 1 + 0 + 0


def test_up_to_the_last_position(llm: Any, reference: Reference, model: TinyModel) -> None:
    prompts = random_prompts([240, 255], seed=3)
    outputs = tokens(generate(llm, prompts, max_tokens=50))
    assert [len(output) for output in outputs] == [16, 1]
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)


@pytest.mark.parametrize("steps", STEPS)
def test_preemption_before_and_after_promotion(
    model: TinyModel, reference: Reference, steps: str
) -> None:
    with engine(model, num_gpu_blocks_override=10, async_scheduling=steps == "async") as llm:
        prompts = random_prompts([50, 58, 90, 120, 30], seed=4)
        outputs = tokens(generate(llm, prompts, max_tokens=[100, 100, 80, 100, 60]))
        preemptions = counter(llm, "vllm:num_preemptions")
        promotions = scheduler(llm).promotions
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert promotions == 2 + 2 + 1 + 1 + 1
    assert preemptions > promotions, "the cache was large enough for everyone: nothing was shown"


def test_reserve_never_promotes(model: TinyModel, reference: Reference) -> None:
    with engine(model, additional_config={"longrope_selection": "reserve"}) as llm:
        prompts = random_prompts([20, 60, 100], seed=5)
        counts = [30, 30, 100]
        outputs = tokens(generate(llm, prompts, max_tokens=counts))
        assert scheduler(llm).promotions == 0
    for prompt, output, n in zip(prompts, outputs, counts, strict=True):
        start = model.factor_file.select(len(prompt) + n)
        reference.expect(prompt, output, starts=start)


def test_part_of_each_head_rotated(tmp_path: Path) -> None:
    """Other architectures are in test_architectures.py: they do not depend on the runner."""
    model = tiny_model(tmp_path, "phi3", partial_rotary_factor=0.5)
    reference = Reference(model.directory, model.factor_file)
    with engine(model) as llm:
        prompts = random_prompts([10, 60, 64, 65, 100, 140], seed=6)
        outputs = tokens(generate(llm, prompts, max_tokens=12))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert reference.excused <= reference.compared // 20


@pytest.mark.skipif(ON_V2 and not ON_GPU, reason="compiling for V2 needs a GPU")
def test_compiled(model: TinyModel, reference: Reference) -> None:
    with engine(model, enforce_eager=False, compilation_config={}) as llm:
        assert llm.llm_engine.vllm_config.compilation_config.mode > 0
        prompts = random_prompts([5, 63, 64, 65, 127, 128, 129], seed=7)
        outputs = tokens(generate(llm, prompts, max_tokens=8))
        assert scheduler(llm).promotions == 4
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)


def test_the_factor_file_is_read_when_the_engine_starts(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    with engine(model) as llm:
        (model.directory / "longrope_factors.json").unlink()
        assert tokens(generate(llm, random_prompts([10]), max_tokens=2))


def test_two_lists_of_a_hugging_face_config(tmp_path: Path) -> None:
    """No factor file: the reference is Hugging Face's own longrope, not our formula."""
    model = tiny_model(tmp_path, "phi3", limits=(64, 256), two_lists=True)
    reference = Reference(model.directory, model.factor_file, native=True)
    with engine(model) as llm:
        prompts = random_prompts([10, 63, 64, 65, 100], seed=8)
        outputs = tokens(generate(llm, prompts, max_tokens=12))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
