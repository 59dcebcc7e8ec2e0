"""A model over several workers: each learns every request's set, and packs for itself."""

import contextlib
import multiprocessing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tests.plugin.conftest import ON_GPU, ON_V2
from tests.plugin.engine import engine, generate, random_prompts, scheduler, tokens
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference

pytestmark = [
    pytest.mark.both_runners,
    pytest.mark.skipif(ON_GPU and torch.cuda.device_count() < 2, reason="needs two GPUs"),
]


def streams_of_a_cpu() -> str:
    """The source of what vLLM puts in place of a GPU's streams; to import it changes PyTorch."""
    import vllm.v1.worker

    return Path(vllm.v1.worker.__path__[0], "cpu", "shm.py").read_text()


@pytest.mark.parametrize(
    "layout",
    [
        {"tensor_parallel_size": 2},
        # On a CPU, V1 makes a later stage's buffers only when it warms up compiled code.
        pytest.param(
            {"pipeline_parallel_size": 2, "enforce_eager": ON_V2},
            marks=() if ON_V2 else pytest.mark.slow,
        ),
    ],
    ids=["tensor", "pipeline"],
)
def test_two_workers(tmp_path: Path, layout: dict[str, Any]) -> None:
    is_pipeline = "pipeline_parallel_size" in layout
    if is_pipeline and ON_V2 and not ON_GPU and "record_event" not in streams_of_a_cpu():
        pytest.skip("before vLLM 0.27, V2 on a CPU has no pipeline")
    model = tiny_model(tmp_path)
    reference = Reference(model.directory, model.factor_file)
    with contextlib.ExitStack() as patches:
        if not is_pipeline and not ON_GPU:  # saves the workers' imports; a pipeline's start anew
            context = multiprocessing.get_context("fork")
            executor = "vllm.v1.executor.multiproc_executor"
            patches.enter_context(mock.patch(f"{executor}.get_mp_context", return_value=context))
        llm = patches.enter_context(engine(model, distributed_executor_backend="mp", **layout))
        prompts = random_prompts([5, 63, 65, 127, 140], seed=12)
        outputs = tokens(generate(llm, prompts, max_tokens=4))
        assert scheduler(llm).promotions == 2
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)
