"""vLLM's own KV offload on a CPU engine: all of it is vLLM's but the copies, which need CUDA there.

Copies are as late as vLLM's interface allows: a transfer happens when vLLM waits for it, or a few
steps after it was submitted. A block that is used again too early is then stored with its new
content, and a test can tell.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from tests.plugin.engine import scheduler

LATE = 3  # steps


@dataclass
class Copies:
    """Copies blocks between the KV cache and the store: vLLM's `OffloadingWorker` on a CPU."""

    caches: list[Any]
    store: list[Any]
    pending: dict[int, tuple[int, Any, Any, bool]] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)
    steps: int = 0

    def submit_store(self, job_id: int, source: Any, target: Any) -> bool:
        self.pending[job_id] = (self.steps + LATE, source.block_ids, target.block_ids, True)
        return True

    def submit_load(self, job_id: int, source: Any, target: Any) -> bool:
        self.pending[job_id] = (self.steps + LATE, target.block_ids, source.block_ids, False)
        return True

    def get_finished(self) -> list[Any]:
        from vllm.v1.kv_offload.base import TransferResult

        self.steps += 1
        self.wait({job_id for job_id, (due, *_) in self.pending.items() if due <= self.steps})
        finished, self.done = self.done, []
        return [TransferResult(job_id=job_id, success=True) for job_id in finished]

    def wait(self, job_ids: set[int]) -> None:
        for job_id in sorted(job_ids & self.pending.keys()):
            _, blocks, chunks, is_store = self.pending.pop(job_id)
            for cache, store in zip(self.caches, self.store, strict=True):
                if is_store:
                    store[chunks] = cache[blocks]
                else:
                    cache[blocks] = store[chunks]
            self.done.append(job_id)

    def shutdown(self) -> None:
        self.pending.clear()


@dataclass
class Keys:
    """The keys that a connector stored under and looked up, in order."""

    stored: list[bytes] = field(default_factory=list)
    looked_up: list[bytes] = field(default_factory=list)
    loaded: list[bytes] = field(default_factory=list)


@contextmanager
def copies_on_a_cpu() -> Iterator[None]:
    """Lets OffloadingConnector run without CUDA, for the engines made inside the block."""
    import torch

    def get_worker(spec: Any, kv_caches: Any) -> Copies:
        tensors = [cache.tensor for cache in kv_caches.tensors]
        store = [
            torch.zeros((spec.num_chunks, tensor.shape[1]), dtype=tensor.dtype)
            for tensor in tensors
        ]
        return Copies(tensors, store)

    with mock.patch("vllm.v1.kv_offload.cpu.spec.CPUOffloadingSpec.get_worker", get_worker):
        yield


def noted(manager: Any) -> Keys:
    """Notes what a real OffloadingManager is asked for from now on."""
    keys = Keys()
    lookup, prepare_store = manager.lookup, manager.prepare_store
    prepare_load = manager.prepare_load

    def noting_lookup(key: bytes, context: Any) -> Any:
        keys.looked_up.append(key)
        return lookup(key, context)

    def noting_store(stored: Any, context: Any) -> Any:
        keys.stored.extend(stored)
        return prepare_store(stored, context)

    def noting_load(loaded: Any, context: Any) -> Any:
        keys.loaded.extend(loaded)
        return prepare_load(loaded, context)

    manager.lookup, manager.prepare_store = noting_lookup, noting_store
    manager.prepare_load = noting_load
    return keys


def manager(llm: Any) -> Any:
    """The OffloadingManager of an engine with OffloadingConnector."""
    return scheduler(llm).connector.connector_scheduler.manager
