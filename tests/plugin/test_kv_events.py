"""The KV events of requests under the first set are stock vLLM's, so that routers find them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from longrope_plugin.salts import PREFIX

from tests.plugin.engine import engine, random_prompts, scheduler
from tests.plugin.models import TinyModel, tiny_model

pytestmark = pytest.mark.both_runners


class Recorder:
    """Keeps what the scheduler publishes."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, batch: Any) -> None:
        self.events.extend(batch.events)

    def shutdown(self) -> None:
        pass


@contextmanager
def recorded(model: TinyModel) -> Iterator[tuple[Any, Recorder]]:
    from vllm.config import KVEventsConfig

    events = KVEventsConfig(enable_kv_cache_events=True, publisher="null")
    with engine(model, kv_events_config=events) as llm:
        recorder = Recorder()
        scheduler(llm).kv_event_publisher = recorder
        yield llm, recorder


def stored(llm: Any, recorder: Recorder, prompt: list[int], salt: str | None = None) -> list[Any]:
    """The `BlockStored` events of one request."""
    from vllm import SamplingParams, TokensPrompt

    recorder.events.clear()
    request = TokensPrompt(prompt_token_ids=prompt)
    if salt is not None:
        request["cache_salt"] = salt
    llm.generate([request], SamplingParams(max_tokens=2, detokenize=False), use_tqdm=False)
    return [event for event in recorder.events if type(event).__name__ == "BlockStored"]


def hashes(events: list[Any]) -> set[bytes]:
    return {block_hash for event in events for block_hash in event.block_hashes}


@pytest.fixture(scope="module", autouse=True)
def whole_hashes() -> Iterator[None]:
    """Events with hashes in bytes, as integers vLLM publishes half of each, and from one seed.

    Some releases of vLLM draw a seed for each engine if there is none.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONHASHSEED", "0")
        environment.setenv("VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES", "0")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_model(tmp_path_factory.mktemp("llama"), limits=(128, 256))


@pytest.fixture(scope="module")
def ours(model: TinyModel) -> Iterator[tuple[Any, Recorder]]:
    with recorded(model) as llm_and_recorder:
        yield llm_and_recorder


@pytest.fixture(scope="module")
def stock(
    model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Recorder]]:
    """The same weights with plain RoPE: the plug-in leaves this engine alone."""
    directory = tmp_path_factory.mktemp("plain") / "llama"
    shutil.copytree(model.directory, directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    del config["longrope_factors"]
    path.write_text(json.dumps(config))
    with recorded(TinyModel(directory, model.factor_file)) as (llm, recorder):
        assert type(scheduler(llm)).__module__.startswith("vllm.")
        yield llm, recorder


@pytest.mark.parametrize("salt", [None, "alice"])
def test_events_of_the_first_set_are_stock_vllms(ours: Any, stock: Any, salt: str | None) -> None:
    (prompt,) = random_prompts([100], seed=20)
    events = stored(*ours, prompt, salt)
    assert events == stored(*stock, prompt, salt)
    assert [len(block_hash) for block_hash in hashes(events)] == [32] * 3


@pytest.mark.parametrize("salt", [None, "alice"])
def test_another_set_stores_the_same_tokens_under_other_hashes(
    ours: Any, stock: Any, salt: str | None
) -> None:
    (prompt,) = random_prompts([200], seed=21)
    own = hashes(stored(*ours, prompt, salt))
    assert len(own) == 6
    assert not own & hashes(stored(*stock, prompt, salt))
    assert not own & hashes(stored(*ours, prompt[:100], salt))


def test_the_salt_that_another_sets_events_show_opens_none_of_its_blocks(ours: Any) -> None:
    (prompt,) = random_prompts([200], seed=22)
    events = stored(*ours, prompt)
    (shown,) = (key for event in events for keys in event.extra_keys if keys for key in keys)
    assert shown.startswith(PREFIX)
    forged = hashes(stored(*ours, prompt[:100], shown))
    assert len(forged) == 3
    assert not forged & hashes(events)
