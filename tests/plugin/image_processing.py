"""Lets vLLM's modules of Qwen's models with images be imported without torchvision.

The registry's torchvision is for CUDA. These modules want it for transformers' processing of
images, of which nothing is called here.
"""

import importlib
import importlib.util
import sys
from unittest import mock

_PROCESSING = "transformers.models.qwen2_vl.image_processing_qwen2_vl"


def import_model(module: str) -> None:
    """Imports a module of vLLM's models."""
    if importlib.util.find_spec("torchvision") is None:
        sys.modules.setdefault(_PROCESSING, mock.MagicMock())
    importlib.import_module(f"vllm.model_executor.models.{module}")
