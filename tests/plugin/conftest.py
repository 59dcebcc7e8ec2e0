"""Engines run in this process, so that a test can see their scheduler.

`VLLM_USE_V2_MODEL_RUNNER=1 pytest tests/plugin` runs the same tests on Model Runner V2. Where there
is no GPU, its Triton kernels then run in Triton's interpreter.
"""

import gc
import os
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tests.plugin.models import TinyModel
    from tests.plugin.reference import Reference

ON_GPU = torch.cuda.is_available()
ON_V2 = os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1"

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

if ON_GPU:  # else Triton's attention multiplies float32 as ten bits
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")

WITHOUT_GPU = Path(__file__).with_name("without_gpu")
if ON_V2 and not ON_GPU:
    os.environ["PYTHONPATH"] = str(WITHOUT_GPU)  # for the processes that tests start
    runpy.run_path(str(WITHOUT_GPU / "sitecustomize.py"))

import pytest  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On V2 without a GPU only the tests of engines that it can run: eager ones of tiny models."""
    if ON_V2 and not ON_GPU:
        skip = pytest.mark.skip(reason="V1 only: compiled, large or not about a runner")
        for item in items:
            if item.get_closest_marker("both_runners") is None:
                item.add_marker(skip)


def pytest_sessionfinish() -> None:
    """Lets Python clear away what the engines' tests have frozen."""
    gc.unfreeze()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> "TinyModel":
    """A tiny Llama with three sets, where a file has no model of its own."""
    from tests.plugin.models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def reference(model: "TinyModel") -> "Reference":
    """What Hugging Face computes with the model."""
    from tests.plugin.reference import Reference

    return Reference(model.directory, model.factor_file)
