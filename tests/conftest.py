"""For all tests."""

import gc
import os
import signal
import sys
from types import ModuleType

import pytest

# What a shell runs in its background ignores Ctrl-C, and so does all that it starts in turn, which
# some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tiny models on a busy two-core machine: threads that wait for one another cost 100 times the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# With n-gram drafts numba starts as many as there are cores, and torch has them from then on.
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

# Tests send nothing out of the machine: no usage statistics either.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

# Modules are no garbage: Python need not look through them while they load, nor ever again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _the_same_numbers_in_every_run() -> None:
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


# What starts an engine in this process, and a server with one.
_STARTERS = ("tests.plugin.engine", "tests.serving")
_SERVERS = ("embedded_server",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that start an engine; `make test-fast` leaves them out."""
    for item in items:
        module = getattr(item, "module", None)
        fixtures = getattr(item, "fixturenames", ())
        if _imports_a_starter(module) or any(name in fixtures for name in _SERVERS):
            item.add_marker(pytest.mark.engine)


def _imports_a_starter(module: ModuleType | None) -> bool:
    values = vars(module).values() if module is not None else ()
    return any(
        getattr(value, "__module__", getattr(value, "__name__", None)) in _STARTERS
        for value in values
    )
