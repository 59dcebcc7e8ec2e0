"""KV offload with promotions: no key of one set is stored or looked up under another."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.plugin import offload
from tests.plugin.engine import STEPS, engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def reference(model: TinyModel) -> Reference:
    return Reference(model.directory, model.factor_file)


@pytest.fixture(scope="module", params=STEPS)
def llm(request: pytest.FixtureRequest, model: TinyModel) -> Iterator[Any]:
    from vllm.config import KVTransferConfig

    transfer = KVTransferConfig(
        kv_connector="OffloadingConnector",
        kv_role="kv_both",
        kv_connector_extra_config={"cpu_bytes_to_use": 2**26, "offload_prompt_only": False},
    )
    with (
        offload.copies_on_a_cpu(),
        engine(
            model, async_scheduling=request.param == "async", kv_transfer_config=transfer
        ) as llm,
    ):
        yield llm


def test_it_runs(llm: Any, reference: Reference) -> None:
    keys = offload.noted(offload.manager(llm))
    prompts = random_prompts([40, 60, 100, 120], seed=1)
    outputs = tokens(generate(llm, prompts, max_tokens=[100, 60, 60, 90]))
    print(scheduler(llm).promotions, len(keys.stored), len(keys.looked_up), len(keys.loaded))
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
    scheduler(llm).reset_prefix_cache()
    again = tokens(generate(llm, prompts, max_tokens=[100, 60, 60, 90]))
    print(scheduler(llm).promotions, len(keys.stored), len(keys.looked_up), len(keys.loaded))
    for prompt, output in zip(prompts, again, strict=True):
        reference.expect(prompt, output)
