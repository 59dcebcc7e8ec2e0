"""Model Runner V2 has room for so many tokens that a request names: more would end its engine."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from longrope_server.front_end.vllm_patches.stumbling import refuse_what_stumbles
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.input_processor import InputProcessor

from tests.plugin.models import give_words, tiny_model
from tests.server.faults.wrong_values import CHAT
from tests.serving import LONGROPE_SERVE, Server, running

WITHOUT_GPU = Path(__file__).parents[2] / "plugin" / "without_gpu"

FITTING: list[dict[str, Any]] = [
    {"logit_bias": dict.fromkeys(range(1024), 1.0)},
    {"allowed_token_ids": list(range(1024)), "n": 2, "temperature": 1},
    {"stop_token_ids": list(range(2, 128)), "min_tokens": 1},
    {"stop_token_ids": list(range(5000))},
    {"bad_words": ["a b c", "zebra"]},
]
TOO_MANY: list[tuple[dict[str, Any], str]] = [
    ({"logit_bias": dict.fromkeys(range(1025), 1.0)}, "logit_bias names 1025"),
    ({"logit_bias": dict.fromkeys(range(1025), 1.0), "n": 2, "temperature": 1}, "logit_bias names"),
    ({"logit_bias": dict.fromkeys(range(40000), -100.0)}, "logit_bias names 40000"),
    ({"allowed_token_ids": list(range(1025))}, "allowed_token_ids names 1025"),
    ({"allowed_token_ids": list(range(40_000))}, "allowed_token_ids names 40000"),
    ({"stop_token_ids": list(range(2, 400)), "min_tokens": 1}, "stop_token_ids with min_tokens"),
    ({"bad_words": ["a b c d e f g h" * 200]}, "bad_words names"),
]


def name(given: Any) -> str:
    return given if isinstance(given, str) else "+".join(given)


@pytest.mark.parametrize(("fields", "said"), TOO_MANY, ids=name)
@pytest.mark.parametrize("on_v2", [False, True])
def test_too_many_tokens_do_not_reach_the_engine_of_v2(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str, on_v2: bool
) -> None:
    params = SamplingParams(**fields)
    if "bad_words" in fields:  # as the tokenizer does it
        params._bad_words_token_ids = [[5] * 1025]
    process = processing(monkeypatch, on_v2)
    if not on_v2:
        assert process(params).sampling_params is params
        return
    with pytest.raises(VLLMValidationError, match=said):
        process(params)


@pytest.mark.parametrize("field", ["kv_transfer_params", "ec_transfer_params"])
def test_transfer_parameters_are_objects(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    process = processing(monkeypatch, on_v2=False)
    for value in (None, {}, {"do_remote_prefill": True}):
        params = SamplingParams(extra_args={field: value})
        assert process(params).sampling_params is params
    for value in ("x", 1, ["x"], ""):
        with pytest.raises(VLLMValidationError, match=f"{field} is .* should be an object"):
            process(SamplingParams(extra_args={field: value}))


def processing(
    monkeypatch: pytest.MonkeyPatch, on_v2: bool
) -> Callable[[SamplingParams], SimpleNamespace]:
    """vLLM's way from parameters to a request, up to our checks."""

    def process_inputs(self: Any, params: SamplingParams) -> SimpleNamespace:
        return SimpleNamespace(sampling_params=params)

    monkeypatch.setattr(InputProcessor, "process_inputs", process_inputs)
    refuse_what_stumbles(lambda: None)
    processor: Any = SimpleNamespace(vllm_config=SimpleNamespace(use_v2_model_runner=on_v2))
    return partial(InputProcessor.process_inputs, processor)  # type: ignore[arg-type]


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
