"""What takes part, what stays out, and what is refused before any weight is read."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from longrope_factors.factor_file.schema import save
from longrope_plugin import adapters, register
from longrope_plugin.compat import hooks, names
from longrope_plugin.compat.check import check
from longrope_plugin.config import SCHEDULER, WORKER
from longrope_plugin.selection import Selection
from transformers import AutoConfig

from tests.plugin.adapters import give_adapters
from tests.plugin.models import TinyModel, random_factor_file, tiny_model
from tests.serving import WITHOUT_COLLECTIONS


@pytest.fixture
def model(tmp_path: Path) -> TinyModel:
    return tiny_model(tmp_path / "model")


def configure(model: TinyModel, **arguments: Any) -> Any:
    """The engine's configuration, without an engine."""
    from vllm import EngineArgs

    register()
    defaults = {"max_model_len": 256, "skip_tokenizer_init": True}
    return EngineArgs(
        model=str(model.directory), **{**defaults, **arguments}
    ).create_engine_config()


def change_config(model: TinyModel, **fields: Any) -> None:
    path = model.directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_longrope_model_gets_our_scheduler_and_worker(model: TinyModel) -> None:
    config = configure(model)
    assert config.scheduler_config.scheduler_cls == SCHEDULER
    assert config.parallel_config.worker_cls == WORKER


def test_register_is_idempotent_and_every_touched_name_exists() -> None:
    from vllm.config.vllm import VllmConfig

    register()
    hooked = VllmConfig.try_verify_and_update_config
    register()
    assert VllmConfig.try_verify_and_update_config is hooked
    check()


def test_a_renamed_name_is_a_sentence(monkeypatch: pytest.MonkeyPatch, model: TinyModel) -> None:
    from vllm.v1.core.sched.scheduler import Scheduler

    monkeypatch.delattr(Scheduler, "_preempt_request")
    with pytest.raises(Exception, match=r"_preempt_request, which vLLM .* does not have"):
        configure(model)


@pytest.mark.parametrize("counts_stale_tokens", [True, False], ids=["0.27 on", "before"])
def test_tokens_in_flight_are_looked_up_where_vllm_has_them(
    monkeypatch: pytest.MonkeyPatch, counts_stale_tokens: bool
) -> None:
    monkeypatch.setattr(names, "_has_stale_tokens", lambda: counts_stale_tokens)
    request = SimpleNamespace(
        num_output_placeholders=3, num_stale_output_tokens=2, drop_stale_output=False
    )
    assert names.tokens_in_flight(request) == (2 if counts_stale_tokens else 3)
    request.drop_stale_output = True  # never delivered
    assert names.tokens_in_flight(request) == (0 if counts_stale_tokens else 3)


def test_every_touch_says_why_and_until_when() -> None:
    later = {**names.STALE_TOUCHES, **names.PAUSE_TOUCHES}
    for touch in (*hooks.TOUCHES, *names.TOUCHES.values(), *later.values()):
        assert touch.why
        assert touch.until


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"scheduler_cls": "vllm.v1.core.sched.scheduler.Scheduler"},
            r"scheduler_cls is vllm.v1.core.sched.scheduler.Scheduler, but",
        ),
        ({"worker_cls": "vllm.v1.worker.cpu_worker.CPUWorker"}, "worker_cls is"),
        (
            {"additional_config": {"longrope_selection": "shortest"}},
            "longrope_selection is 'shortest'; it must be one of 'length', 'reserve'",
        ),
    ],
    ids=["scheduler", "worker", "policy"],
)
def test_refused_arguments(model: TinyModel, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        configure(model, **arguments)


def test_refused_length(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    change_config(model, max_position_embeddings=1024)
    with pytest.raises(Exception, match=r"max_model_len is 1024, but .* covers 256 tokens"):
        configure(model, max_model_len=1024)


def test_refused_draft_model(model: TinyModel) -> None:
    speculative = {
        "method": "draft_model",
        "model": str(model.directory),
        "num_speculative_tokens": 2,
    }
    with pytest.raises(Exception, match="has a longrope configuration of its own"):
        configure(model, speculative_config=speculative)


@pytest.mark.parametrize(
    ("dtype", "runner", "sentence"),
    [
        ("float32", "1", "the dtype is float32: serve with --dtype bfloat16 or float16"),
        ("bfloat16", "0", "serve with VLLM_USE_V2_MODEL_RUNNER=1"),
        ("bfloat16", "1", None),
    ],
)
def test_adapters_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, runner: str, sentence: str | None
) -> None:
    adapted = give_adapters(tiny_model(tmp_path / "adapted"), 1)
    config = configure(adapted, dtype=dtype)
    config.lora_config = None  # as it is before
    selection = Selection.from_vllm_config(config)
    assert selection is not None
    monkeypatch.setattr("vllm.platforms.current_platform.is_cpu", lambda: False)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", runner)
    with nullcontext() if sentence is None else pytest.raises(ValueError, match=sentence):
        adapters.configure(config, selection)


def test_refused_factor_file_of_another_model(model: TinyModel) -> None:
    other = random_factor_file(32, [64, 128, 256], theta=500000.0)
    save(other, model.directory / "longrope_factors.json")
    with pytest.raises(Exception, match=r"longrope_factors\.json.*rope_theta"):
        configure(model)


def test_a_factor_file_that_changes_while_the_engine_starts(model: TinyModel) -> None:
    config = configure(model)
    path = model.directory / "longrope_factors.json"
    save(random_factor_file(32, [64, 256]), path)
    with pytest.raises(ValueError, match=r"longrope_factors\.json has other factor sets than"):
        Selection.from_vllm_config(config)


def test_code_compiled_for_other_sets_is_not_taken(model: TinyModel) -> None:
    """The config's two lists are those of the first and the last set, so they do not tell."""
    before = configure(model).compute_hash()
    assert configure(model).compute_hash() == before
    sets = model.factor_file.sets
    fewer = model.factor_file.model_copy(update={"sets": (sets[0], sets[-1])})
    save(fewer, model.directory / "longrope_factors.json")
    assert configure(model).compute_hash() != before


@pytest.mark.parametrize("joins", [True, False])
def test_a_worker_that_joins_an_engine_runs_nothing(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, joins: bool
) -> None:
    """The workers that serve would have to run it, too, where experts are shared among them."""
    from longrope_plugin import positions_check
    from longrope_plugin.worker import LongRoPEWorker

    runs: list[Any] = []
    monkeypatch.setattr(positions_check, "check", runs.append)
    monkeypatch.setattr(LongRoPEWorker.__mro__[1], "load_model", lambda *_, **__: None)
    worker = object.__new__(LongRoPEWorker)
    worker.vllm_config = configure(model)
    worker.model_config = worker.vllm_config.model_config
    worker.use_v2_model_runner = False
    worker.model_runner = SimpleNamespace(get_model=torch.nn.Module)
    worker.load_model(load_dummy_weights=joins)
    assert bool(runs) != joins


SCRIPT = """
import json, os, sys
from vllm import LLM, SamplingParams, TokensPrompt

def result():
    llm = LLM(model=sys.argv[1], skip_tokenizer_init=True, enforce_eager=True, max_model_len=128,
              dtype="float32")
    core = llm.llm_engine.engine_core.engine_core
    prompts = [[(7 * i * i) % 500 + 3 for i in range(n)] for n in (5, 60, 90)]
    outputs = llm.generate(
        [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts],
        SamplingParams(temperature=0, max_tokens=20, detokenize=False, ignore_eos=True),
        use_tqdm=False,
    )
    worker = core.model_executor.driver_worker
    return [
        [list(o.outputs[0].token_ids) for o in outputs],
        [c.__module__ + "." + c.__qualname__ for c in (
            type(core.scheduler), type(worker.worker), type(worker.model_runner))],
    ]

for plugins in ("longrope", "none"):  # no plug-in is loaded before an engine
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    os.environ["VLLM_PLUGINS"] = plugins
    print("RESULT", json.dumps(result()), flush=True)
    os._exit(0)
"""


@pytest.mark.long
def test_without_longrope_nothing_changes(model: TinyModel) -> None:
    """Same tokens and vLLM's own classes, with the plug-in installed and without."""
    config = AutoConfig.from_pretrained(model.directory)
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    del config.longrope_factors
    config.save_pretrained(model.directory)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model.directory)],
        env={**os.environ, **WITHOUT_COLLECTIONS},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("RESULT")]
    results = [json.loads(line.removeprefix("RESULT")) for line in lines]
    assert len(results) == 2
    assert results[0] == results[1]
    assert all(name.startswith("vllm.v1.") for name in results[0][1])
