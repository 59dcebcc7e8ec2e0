"""The environment variables that vLLM is started with."""

import os
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from longrope_server.front_end.settings import VARIABLE, Settings

PLUGIN = "longrope"
# vLLM's groups of plug-ins, except `vllm.endpoint_plugins`, which load only if they are named.
LOADED_UNASKED = tuple(
    f"vllm.{kind}_plugins" for kind in ("general", "io_processor", "platform", "stat_logger")
)
KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
KV_SPACE_GIB = 4  # SmolLM2-135M needs 22.5 KiB a token: 186,000 tokens
WORKER_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
# Each says which cores compute. Someone who sets one of them has chosen.
ABOUT_CORES = (WORKER_PROCESS, "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU")
FEW_CORES = 4
AHEAD_OF_TIME = "VLLM_USE_AOT_COMPILE"


def allow_endpoint_plugin(environment: MutableMapping[str, str]) -> None:
    """Makes vLLM load our endpoint plug-in and everything that it would have loaded without us.

    Endpoint plug-ins load only if VLLM_PLUGINS names them, and VLLM_PLUGINS, once set, hides every
    plug-in that it does not name. So if it is unset, all plug-ins of the other groups are named. (A
    foreign endpoint plug-in that shares its name with one of those loads, too.)
    """
    allowed = environment.get("VLLM_PLUGINS")
    if allowed is None:
        names = [plugin.name for group in LOADED_UNASKED for plugin in entry_points(group=group)]
    else:
        names = [name for name in allowed.split(",") if name]
    environment["VLLM_PLUGINS"] = ",".join(dict.fromkeys([*names, PLUGIN]))


def reserve_kv_space(environment: MutableMapping[str, str]) -> str | None:
    """Gives a CPU engine memory for keys and values if the user has not said how much.

    Returns a sentence about it, or None if nothing was set.
    """
    if not on_cpu() or KV_SPACE in environment:
        return None
    environment[KV_SPACE] = str(KV_SPACE_GIB)
    return f"{KV_SPACE} is not set: {KV_SPACE_GIB} GiB of memory are kept for keys and values."


def compute_on_every_core(environment: MutableMapping[str, str]) -> str | None:
    """Has a CPU engine run the model in its own process where cores are few.

    vLLM (0.32) runs it in a worker process. The engine waits busily for its answers, on a core
    that vLLM sets aside, so of two cores only one computes. Of many, one is a fair price for
    threads that are bound to their cores. An engine with several workers starts them regardless.

    Returns a sentence about it, or None if nothing was set.
    """
    cores = len(os.sched_getaffinity(0)) if on_cpu() else FEW_CORES + 1
    if cores > FEW_CORES or not environment.keys().isdisjoint(ABOUT_CORES):
        return None
    environment[WORKER_PROCESS] = "0"
    return f"{WORKER_PROCESS} is 0: of few cores, a worker process costs the model one."


def keep_what_was_compiled(environment: MutableMapping[str, str]) -> None:
    """Lets a CPU engine find at its next start what it has compiled.

    vLLM (0.32) saves it in a form that it cannot load again for a CPU ("Compiling model again due
    to a load failure"). Without that form, PyTorch's own cache has it.
    """
    if on_cpu():
        environment.setdefault(AHEAD_OF_TIME, "0")


@contextmanager
def front_end(environment: MutableMapping[str, str], settings: Settings) -> Iterator[None]:
    """Hands the settings to every process of the server, with a ledger that they share."""
    shared_memory = Path("/dev/shm")
    place = shared_memory if shared_memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="longrope-", dir=place) as directory:
        ledger = str(Path(directory) / "ledger")
        shared = settings.model_copy(update={"ledger": ledger})
        environment[VARIABLE] = shared.model_dump_json()
        yield


def on_cpu() -> bool:
    """Whether the installed vLLM is a build for CPUs, found out without importing it."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        pass
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        return False
