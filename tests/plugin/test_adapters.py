"""A set brings its own adapter: tokens equal Hugging Face's with the weights of each one's set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.adapters import (
    DTYPE,
    TARGETS,
    adapted_engine,
    adapted_model,
    adapted_reference,
)
from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import STEPS, counter, generate, random_prompts, scheduler, tokens
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The first set on the plain weights, each of the others with an adapter of its own."""
    return adapted_model(tmp_path_factory.mktemp("adapted"), 1, 2)


@pytest.fixture(scope="module")
def reference(model: TinyModel) -> Iterator[Reference]:
    reference = adapted_reference(model, {1: 1, 2: 2})
    yield reference
    print(f"\n{reference.excused} of {reference.compared} tokens were excused as ties")


@pytest.fixture(scope="module", params=STEPS)
def llm(request: pytest.FixtureRequest, model: TinyModel) -> Iterator[Any]:
    with adapted_engine(model, async_scheduling=request.param == "async") as llm:
        yield llm


def test_a_thousand_tokens_around_every_limit(
    llm: Any, model: TinyModel, reference: Reference
) -> None:
    """All equal Hugging Face's; the control says how many would not with the plain weights."""
    lengths = [5, 20, 40, 62, 63, 64, 65, 66, 100, 126, 127, 128, 129, 130, 150, 192]
    before = scheduler(llm).promotions
    prompts = random_prompts(lengths, seed=1)
    outputs = tokens(generate(llm, prompts, max_tokens=64))
    assert sum(map(len, outputs)) == 1024
    plain, adapted, differ = Reference(model.directory, model.factor_file), 0, 0
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
        for place, token in enumerate(output):
            index = model.factor_file.select(len(prompt) + place)
            if index:
                logits = plain.logits([*prompt, *output][:-1], index, len(output))
                adapted += 1
                differ += int(logits[place].argmax()) != token
    assert scheduler(llm).promotions - before == sum(
        length <= limit < length + 63 for length in lengths for limit in model.limits
    )
    print(f"\n1,024 tokens right, {adapted} with an adapter; {differ} differ on plain weights")
    assert differ > adapted / 2


def test_promoted_twice_beside_neighbours(llm: Any, reference: Reference) -> None:
    before = scheduler(llm).promotions
    prompts = random_prompts([40, 100, 20], seed=2)
    outputs = tokens(generate(llm, prompts, max_tokens=[120, 60, 20]))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert scheduler(llm).promotions - before == 2 + 1 + 0


def test_prefix_cache_keeps_weights_apart(llm: Any, reference: Reference) -> None:
    (prompt,) = random_prompts([150], seed=3)
    cached = []
    for length in (60, 120, 150, 60, 120):  # set 0, 1, 2, then 0 and 1 again
        outputs = generate(llm, [prompt[:length]], max_tokens=4)
        reference.expect(prompt[:length], *tokens(outputs))
        cached.append(outputs[0].num_cached_tokens)
    assert cached == [0, 0, 0, 32, 96]


def test_preempted_before_and_after_promotion(model: TinyModel, reference: Reference) -> None:
    with adapted_engine(model, num_gpu_blocks_override=10) as llm:
        prompts = random_prompts([50, 58, 90, 120, 30], seed=4)
        outputs = tokens(generate(llm, prompts, max_tokens=[100, 100, 80, 100, 60]))
        preemptions = counter(llm, "vllm:num_preemptions")
        promotions = scheduler(llm).promotions
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    assert preemptions > promotions == 2 + 2 + 1 + 1 + 1


def test_engines_of_one_process_keep_their_own(
    model: TinyModel, reference: Reference, tmp_path: Path
) -> None:
    other = adapted_model(tmp_path, 2)
    other_reference = adapted_reference(other, {2: 2})
    with adapted_engine(model) as one, adapted_engine(other) as two:
        for seed in range(10, 14):
            prompts = random_prompts([100, 140], seed=seed)
            # One request at a time: which tokens have an adapter need not be noted anew.
            for prompt in prompts:
                for llm, right in ((one, reference), (two, other_reference)):
                    (output,) = tokens(generate(llm, [prompt], max_tokens=4))
                    right.expect(prompt, output)


def test_plain_weights_to_the_last_bit(tmp_path: Path) -> None:
    """Chats of the first set, alone: those of an engine that has no adapter at all."""
    plain = tiny_model(tmp_path / "plain", dtype=DTYPE)
    adapted = adapted_model(tmp_path / "adapted", 1, 2)
    prompts = random_prompts([5, 20, 33, 40], seed=5)
    said = []
    for model in (plain, adapted):
        with adapted_engine(model) as llm:
            said.append(generate(llm, prompts, max_tokens=16, logprobs=5))
    for one, other in zip(*said, strict=True):
        assert one.outputs[0].token_ids == other.outputs[0].token_ids
        assert one.outputs[0].logprobs == other.outputs[0].logprobs


def test_a_callers_adapter_where_the_set_has_none(llm: Any, model: TinyModel) -> None:
    """It is served; its weights are those of another set's adapter, under the first set."""
    from vllm.lora.request import LoRARequest

    folder = model.directory / "adapter-1"
    reference = adapted_reference(model, {0: 1})
    (prompt,) = random_prompts([30], seed=6)
    caller = LoRARequest("mine", 1, str(folder))
    (output,) = tokens(generate(llm, [prompt], max_tokens=12, lora_request=caller))
    reference.expect(prompt, output)


@pytest.mark.parametrize(("prompt_tokens", "max_tokens"), [(65, 1), (60, 6), (30, 200), (64, 2)])
def test_a_callers_adapter_beside_the_sets_is_refused(
    llm: Any, model: TinyModel, prompt_tokens: int, max_tokens: int
) -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.lora.request import LoRARequest

    caller = LoRARequest("mine", 1, str(model.directory / "adapter-1"))
    (prompt,) = random_prompts([prompt_tokens])
    with pytest.raises(
        VLLMValidationError, match="names a LoRA adapter, but the factor set of 128 tokens"
    ):
        generate(llm, [prompt], max_tokens=max_tokens, lora_request=caller)
    assert not scheduler(llm).requests


def test_ngram_drafts(model: TinyModel, reference: Reference) -> None:
    drafts = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2}
    pattern = random_prompts([7], seed=7)[0]
    with adapted_engine(model, speculative_config=drafts) as llm:
        prompts = [(pattern * 30)[:length] for length in (60, 100, 122, 140)]
        outputs = tokens(generate(llm, prompts, max_tokens=24))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)


def test_several_answers_to_one_prompt(llm: Any, reference: Reference) -> None:
    (prompt,) = random_prompts([60], seed=8)
    (output,) = generate(llm, [prompt], max_tokens=16, n=3, temperature=0.01, seed=1)
    for choice in output.outputs:
        reference.expect(prompt, choice.token_ids)


def test_the_engine_is_made_ready(llm: Any) -> None:
    lora = llm.llm_engine.vllm_config.lora_config
    assert lora.max_lora_rank == 8  # the least of vLLM's that holds 4
    assert lora.max_loras == 2 + (not ON_GPU)
    assert set(lora.target_modules) == set(TARGETS)


def test_sleep_that_would_lose_the_adapters_is_refused(llm: Any, reference: Reference) -> None:
    with pytest.raises(ValueError, match="level 2 discards the adapters"):
        llm.sleep(level=2)
    llm.wake_up()
    (prompt,) = random_prompts([70], seed=15)
    reference.expect(prompt, tokens(generate(llm, [prompt], max_tokens=4))[0])


def test_other_weights_beneath_the_adapters_are_refused(llm: Any, reference: Reference) -> None:
    with pytest.raises(ValueError, match="Weights are to be loaded anew, but the factor sets have"):
        llm.collective_rpc("reload_weights")
    (prompt,) = random_prompts([70], seed=16)
    reference.expect(prompt, tokens(generate(llm, [prompt], max_tokens=4))[0])


def test_a_trainer_that_would_send_other_weights_is_refused(model: TinyModel) -> None:
    from vllm.config import WeightTransferConfig

    with (
        pytest.raises(ValueError, match="--weight-transfer-config is given, but the factor sets"),
        adapted_engine(model, weight_transfer_config=WeightTransferConfig()),
    ):
        pass


@pytest.mark.skipif(ON_GPU, reason="about CPUs")
def test_a_release_that_cannot_apply_them_is_refused(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm.__version_tuple__", (0, 24, 0))
    with (
        pytest.raises(ValueError, match=r"cannot apply on a CPU .* vLLM 0\.28"),
        adapted_engine(model),
    ):
        pass
