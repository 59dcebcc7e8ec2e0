"""vLLM's own KV offload on a CPU engine: all of it is vLLM's but the copies, which need CUDA there.

Copies are as late as vLLM's interface allows: a block is copied when vLLM waits for it, or some
steps after the copy was asked for. A block that is used again too early is then stored with its new
content, and a test can tell.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch

from tests.plugin.engine import scheduler

LATE = 3  # polls


@dataclass
class Copy:
    """A copy that has been asked for. vLLM polls it, or waits for it, as for a CUDA event."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]]  # from, to
    source: Any  # block numbers
    target: Any
    fails: bool = False
    polls: int = 0
    is_done: bool = False

    def synchronize(self) -> None:
        if not self.is_done and not self.fails:
            for taken, given in self.pairs:
                given[self.target] = taken[self.source]
        self.is_done = True

    def query(self) -> bool:
        self.polls += 1
        if self.polls >= LATE:
            self.synchronize()
        return self.is_done


@dataclass
class Copies:
    """The `OffloadingWorker` of OffloadingConnector.

    pairs: of KV cache and store. failing: every so many loads, one copies nothing; 0 for none.
    """

    pairs: list[tuple[torch.Tensor, torch.Tensor]]
    failing: int = 0
    copies: dict[int, Copy] = field(default_factory=dict)
    loads: int = 0
    not_loaded: set[int] = field(default_factory=set)  # block numbers that vLLM is not told of yet

    def submit_store(self, job_id: int, source: Any, target: Any) -> bool:
        self.copies[job_id] = Copy(self.pairs, source.block_ids, target.block_ids)
        return True

    def submit_load(self, job_id: int, source: Any, target: Any) -> bool:
        back = [(store, cache) for cache, store in self.pairs]
        self.loads += 1
        fails = bool(self.failing) and self.loads % self.failing == 0
        self.copies[job_id] = Copy(back, source.block_ids, target.block_ids, fails)
        return True

    def get_finished(self) -> list[Any]:
        from vllm.v1.kv_offload.base import TransferResult

        finished = [job_id for job_id, copy in self.copies.items() if copy.query()]
        for job_id in finished:
            copy = self.copies.pop(job_id)
            if copy.fails:
                self.not_loaded.update(map(int, copy.target))
        return [TransferResult(job_id=job_id, success=True) for job_id in finished]

    def take_not_loaded(self) -> set[int]:
        """The blocks of failed loads since the last call."""
        taken, self.not_loaded = self.not_loaded, set()
        return taken

    def wait(self, job_ids: set[int]) -> None:
        for job_id in job_ids & self.copies.keys():
            self.copies[job_id].synchronize()

    def shutdown(self) -> None:
        self.copies.clear()


@contextmanager
def offloading_on_a_cpu(failing: int = 0) -> Iterator[None]:
    """Lets OffloadingConnector run without CUDA, for the engines made inside the block.

    failing: every so many loads, one fails and is reported; 0 for none.
    """
    workers: list[Copies] = []

    def get_worker(spec: Any, kv_caches: Any) -> Copies:
        tensors = [cache.tensor for cache in kv_caches.tensors]
        pairs = [(t, torch.zeros_like(t[:1]).repeat(spec.num_chunks, 1)) for t in tensors]
        workers.append(Copies(pairs, failing))
        return workers[-1]

    def load_errors(connector: Any) -> set[int]:
        return set().union(*(worker.take_not_loaded() for worker in workers))

    connector = "vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector"
    with (
        mock.patch("vllm.v1.kv_offload.cpu.spec.CPUOffloadingSpec.get_worker", get_worker),
        mock.patch(f"{connector}.OffloadingConnector.get_block_ids_with_load_errors", load_errors),
    ):
        yield


@contextmanager
def simple_offload_on_a_cpu() -> Iterator[None]:
    """The same for SimpleCPUOffloadConnector."""
    from vllm.v1.kv_cache_interface import group_kernel_blocks
    from vllm.v1.simple_kv_offload.worker import SimpleCPUOffloadWorker

    class Backend:
        def __init__(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
            self.pairs = pairs

        def launch_copy(
            self,
            source: list[int],
            target: list[int],
            is_store: bool,
            event_idx: int,
            events_list: list[Any],
        ) -> None:
            pairs = self.pairs if is_store else [(store, cache) for cache, store in self.pairs]
            events_list.append((event_idx, Copy(pairs, source, target)))

    class Worker(SimpleCPUOffloadWorker):  # type: ignore[misc]
        def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
            count = self.kv_cache_config.num_blocks
            caches = [group_kernel_blocks(cache, count) for cache in kv_caches.values()]
            self._backend = Backend([(cache, torch.zeros_like(cache)) for cache in caches])

        def wait_for_save(self) -> None:
            metadata = self._connector_metadata
            if metadata is not None and metadata.store_gpu_blocks:
                self._backend.launch_copy(
                    metadata.store_gpu_blocks,
                    metadata.store_cpu_blocks,
                    is_store=True,
                    event_idx=metadata.store_event,
                    events_list=self._store_events,
                )

    connector = "vllm.distributed.kv_transfer.kv_connector.v1.simple_cpu_offload_connector"
    with mock.patch(f"{connector}.SimpleCPUOffloadWorker", Worker):
        yield


@dataclass
class Keys:
    """The keys that a connector asked its real OffloadingManager for, in order."""

    stored: list[bytes] = field(default_factory=list)
    looked_up: list[bytes] = field(default_factory=list)
    loaded: list[bytes] = field(default_factory=list)


@contextmanager
def noted(llm: Any) -> Iterator[Keys]:
    """Notes the keys that an engine with OffloadingConnector uses inside the block."""
    keys = Keys()
    manager = scheduler(llm).connector.connector_scheduler.manager
    lookup, store, load = manager.lookup, manager.prepare_store, manager.prepare_load

    def noting_lookup(key: bytes, context: Any) -> Any:
        keys.looked_up.append(key)
        return lookup(key, context)

    def noting_store(stored: Any, context: Any) -> Any:
        keys.stored.extend(stored)
        return store(stored, context)

    def noting_load(loaded: Any, context: Any) -> Any:
        keys.loaded.extend(loaded)
        return load(loaded, context)

    with mock.patch.multiple(
        manager, lookup=noting_lookup, prepare_store=noting_store, prepare_load=noting_load
    ):
        yield keys
