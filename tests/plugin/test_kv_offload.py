"""KV offload and promotions: nothing of one set is stored, looked up or loaded under another."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.plugin import offload
from tests.plugin.adapters import adapted_engine, adapted_model, adapted_reference
from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import (
    STEPS,
    counter,
    engine,
    generate,
    random_prompts,
    scheduler,
    tokens,
)
from tests.plugin.models import TinyModel
from tests.plugin.reference import Reference

pytestmark = pytest.mark.skipif(ON_GPU, reason="the copies here are a CPU's")

CONNECTORS = {
    "OffloadingConnector": offload.offloading_on_a_cpu,
    "SimpleCPUOffloadConnector": offload.simple_offload_on_a_cpu,
}


def offloading(name: str, after_failure: str = "fail") -> dict[str, Any]:
    """The arguments of an engine that stores whatever it computes, outputs too.

    after_failure: what becomes of a request whose blocks cannot be loaded: fail or recompute.
    """
    from vllm.config import KVTransferConfig

    extra = {"cpu_bytes_to_use": 2**26, "offload_prompt_only": False}
    transfer = KVTransferConfig(
        kv_connector=name,
        kv_role="kv_both",
        kv_connector_extra_config=extra,
        kv_load_failure_policy=after_failure,
    )
    return {"kv_transfer_config": transfer}


def external_hits(llm: Any) -> int:
    return counter(llm, "vllm:external_prefix_cache_hits")


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CONNECTORS)
def test_tokens_stay_right_through_promotions_and_loads(
    model: TinyModel, reference: Reference, name: str, steps: str
) -> None:
    prompts = random_prompts([40, 60, 100, 120], seed=1)
    arguments = {"async_scheduling": steps == "async", **offloading(name)}
    with CONNECTORS[name](), engine(model, **arguments) as llm:
        for _ in range(2):
            before = scheduler(llm).promotions
            outputs = tokens(generate(llm, prompts, max_tokens=[100, 60, 60, 90]))
            for prompt, output in zip(prompts, outputs, strict=True):
                reference.expect(prompt, output)
            assert scheduler(llm).promotions - before == 2 + 1 + 1 + 1
            assert scheduler(llm).reset_prefix_cache()
        assert external_hits(llm) >= 32 + 32 + 96 + 96


@pytest.mark.both_runners
@pytest.mark.parametrize("steps", STEPS)
def test_after_a_promotion_no_key_of_the_old_set_is_used(
    model: TinyModel, reference: Reference, steps: str
) -> None:
    from vllm import SamplingParams, TokensPrompt
    from vllm.v1.kv_offload.base import make_offload_key

    (prompt,) = random_prompts([40], seed=2)
    params = SamplingParams(temperature=0, ignore_eos=True, detokenize=False, max_tokens=170)
    arguments = {"async_scheduling": steps == "async", **offloading("OffloadingConnector")}
    with ExitStack() as stack:
        stack.enter_context(offload.offloading_on_a_cpu())
        llm = stack.enter_context(engine(model, **arguments))
        keys = stack.enter_context(offload.noted(llm))
        core = scheduler(llm)
        name = llm.llm_engine.add_request("one", TokensPrompt(prompt_token_ids=prompt), params)
        request = core.requests[name]
        hashes: dict[int, list[bytes]] = {}
        used: dict[int, list[bytes]] = {}
        while llm.llm_engine.has_unfinished_requests():
            index = request.factor_set
            outputs = llm.llm_engine.step()
            hashes[request.factor_set] = list(request.block_hashes)
            if request.factor_set != index:  # the step that promoted it used the new keys only
                index = request.factor_set
            used.setdefault(index, []).extend([*keys.stored, *keys.looked_up, *keys.loaded])
            for noted in (keys.stored, keys.looked_up, keys.loaded):
                noted.clear()
        while core.connector.has_pending_push_work():
            llm.llm_engine.engine_core.engine_core.step_fn()
    assert set(hashes) == set(used) == {0, 1, 2}
    for index, own in used.items():
        of_the_set = {make_offload_key(block_hash, 0) for block_hash in hashes[index]}
        assert own
        assert set(own) <= of_the_set
    reference.expect(prompt, list(outputs[0].outputs[0].token_ids))


def test_a_request_that_ends_while_it_is_preempted_stores_no_block_that_was_freed(
    model: TinyModel,
) -> None:
    """Its last token was in flight when it outgrew its set."""
    (prompt,) = random_prompts([60], seed=3)
    arguments = {"async_scheduling": True, **offloading("OffloadingConnector")}
    with offload.offloading_on_a_cpu(), engine(model, **arguments) as llm:
        (output,) = tokens(generate(llm, [prompt], max_tokens=5))
        assert scheduler(llm).reset_prefix_cache(reset_connector=True)
        with offload.noted(llm) as keys:
            preemptions = counter(llm, "vllm:num_preemptions")
            (stopped,) = tokens(generate(llm, [prompt], max_tokens=50, stop_token_ids=[output[4]]))
            assert stopped == output
            assert counter(llm, "vllm:num_preemptions") == preemptions + 1
            generate(llm, random_prompts([5], seed=4), max_tokens=8)  # steps for late copies
    assert len(set(keys.stored)) == 1


def test_preempted_for_memory_before_and_after_promotions(
    model: TinyModel, reference: Reference
) -> None:
    arguments = {"num_gpu_blocks_override": 10, **offloading("OffloadingConnector")}
    with offload.offloading_on_a_cpu(), engine(model, **arguments) as llm:
        prompts = random_prompts([50, 58, 90, 120, 30], seed=5)
        with offload.noted(llm) as keys:
            outputs = tokens(generate(llm, prompts, max_tokens=[100, 100, 80, 100, 60]))
        for prompt, output in zip(prompts, outputs, strict=True):
            reference.expect(prompt, output)
        assert counter(llm, "vllm:num_preemptions") > scheduler(llm).promotions == 7
        assert keys.loaded


@pytest.mark.parametrize("steps", STEPS)
def test_loads_that_fail_are_computed_anew(
    model: TinyModel, reference: Reference, steps: str
) -> None:
    prompts = random_prompts([40, 60, 100, 120], seed=1)
    arguments = {
        "async_scheduling": steps == "async",
        "num_gpu_blocks_override": 14,  # preempted for memory as well
        **offloading("OffloadingConnector", after_failure="recompute"),
    }
    with offload.offloading_on_a_cpu(failing=2), engine(model, **arguments) as llm:
        core = scheduler(llm)
        for _ in range(2):
            before = core.promotions
            with offload.noted(llm) as keys:
                outputs = tokens(generate(llm, prompts, max_tokens=[100, 60, 60, 90]))
            for prompt, output in zip(prompts, outputs, strict=True):
                reference.expect(prompt, output)
            assert core.promotions - before == 2 + 1 + 1 + 1
            assert core.reset_prefix_cache()
        assert keys.loaded


def test_keys_cover_the_adapters_of_sets(tmp_path: Path) -> None:
    model = adapted_model(tmp_path, 1, 2)
    reference = adapted_reference(model, {1: 1, 2: 2})
    with (
        offload.offloading_on_a_cpu(),
        adapted_engine(model, **offloading("OffloadingConnector")) as llm,
    ):
        (prompt,) = random_prompts([150], seed=6)
        for _ in range(2):
            for length in (60, 120, 150):  # sets 0, 1 and 2
                (output,) = tokens(generate(llm, [prompt[:length]], max_tokens=4))
                reference.expect(prompt[:length], output)
            assert scheduler(llm).reset_prefix_cache()
        assert external_hits(llm) >= 32 + 96 + 128
