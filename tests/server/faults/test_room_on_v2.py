"""Model Runner V2 has room for so many tokens that a request names: more would end its engine."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from longrope_server.front_end.vllm_patches.stumbling import refuse_what_stumbles
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.async_llm import AsyncLLM

from tests.plugin.models import give_words, tiny_model
from tests.server.faults.wrong_values import CHAT
from tests.serving import LONGROPE_SERVE, Server, running

WITHOUT_GPU = Path(__file__).parents[2] / "plugin" / "without_gpu"

FITTING: list[dict[str, Any]] = [
    {"logit_bias": dict.fromkeys(range(1024), 1.0)},
    {"allowed_token_ids": list(range(1024))},
    {"stop_token_ids": list(range(2, 128)), "min_tokens": 1},
    {"stop_token_ids": list(range(5000))},
    {"bad_words": ["a b c", "zebra"]},
]
TOO_MANY: list[tuple[dict[str, Any], str]] = [
    ({"logit_bias": dict.fromkeys(range(1025), 1.0)}, "logit_bias names 1025"),
    ({"logit_bias": dict.fromkeys(range(40000), -100.0)}, "logit_bias names 40000"),
    ({"allowed_token_ids": list(range(1025))}, "allowed_token_ids names 1025"),
    ({"allowed_token_ids": list(range(40_000))}, "allowed_token_ids names 40000"),
    ({"stop_token_ids": list(range(2, 400)), "min_tokens": 1}, "stop_token_ids with min_tokens"),
    ({"bad_words": ["a b c d e f g h" * 200]}, "bad_words names"),
]


class Engine:
    """What `AsyncLLM._add_request` asks of its engine client."""

    def __init__(self, on_v2: bool) -> None:
        self.vllm_config = SimpleNamespace(use_v2_model_runner=on_v2)
        self.output_processor = self.engine_core = self
        self.log_requests = False
        self.given: list[Any] = []

    def has_request(self, request_id: str) -> bool:
        return True

    def add_request(self, *args: Any) -> None:
        """The output processor's."""

    async def add_request_async(self, request: Any) -> None:
        self.given.append(request)


def name(given: Any) -> str:
    return given if isinstance(given, str) else "+".join(given)


@pytest.mark.parametrize(("fields", "said"), TOO_MANY, ids=name)
@pytest.mark.parametrize("on_v2", [False, True])
async def test_too_many_tokens_do_not_reach_the_engine_of_v2(
    fields: dict[str, Any], said: str, on_v2: bool
) -> None:
    refuse_what_stumbles(lambda: None)
    params = SamplingParams(**fields)
    if "bad_words" in fields:  # as the tokenizer does it
        params._bad_words_token_ids = [[5] * 1025]
    engine, request = Engine(on_v2), SimpleNamespace(request_id="a", sampling_params=params)
    adding = AsyncLLM._add_request(engine, request, None, None, 0, None)  # type: ignore[arg-type]
    if not on_v2:
        await adding
        assert engine.given == [request]
        return
    with pytest.raises(VLLMValidationError, match=said):
        await adding
    assert engine.given == []


@pytest.fixture(scope="module")
def v2_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("v2")
    model = give_words(tiny_model(folder / "model", vocab_size=49152))
    environment = {
        "VLLM_USE_V2_MODEL_RUNNER": "1",
        "PYTHONPATH": os.pathsep.join([str(WITHOUT_GPU), os.environ.get("PYTHONPATH", "")]),
    }
    command = (*LONGROPE_SERVE, model.directory, "--max-model-len=128")
    with running(command, folder / "log", **environment) as server:
        yield server


@pytest.mark.slow
def test_its_engine_goes_on(v2_server: Server) -> None:
    def post(fields: dict[str, Any]) -> httpx.Response:
        body = {"messages": CHAT, "max_tokens": 2, "temperature": 0, **fields}
        return httpx.post(f"{v2_server.url}/v1/chat/completions", json=body, timeout=300)

    for fields, said in TOO_MANY:
        answer = post(fields)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["error"]["message"]
    for fields in FITTING:
        answer = post(fields)
        assert answer.status_code == 200, answer.text
