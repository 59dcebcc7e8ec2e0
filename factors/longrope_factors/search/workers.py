"""Workers run evaluations in this process, in several processes, or on a Ray cluster."""

import functools
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from typing import Any, Protocol

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.search.task import Laboratory, Worker

Job = tuple[FactorSet, int]
"""A factor set and the index of a document."""


class Workers(Protocol):
    """Measure jobs, in any order."""

    def losses(self, jobs: list[Job]) -> Iterator[tuple[int, float]]:
        """The index and loss of each job, as the jobs finish."""

    def close(self) -> None:
        """End the workers."""


class Here:
    """One worker, in this process."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._worker = Worker(laboratory)

    def losses(self, jobs: list[Job]) -> Iterator[tuple[int, float]]:
        """The index and loss of each job, in order."""
        for index, job in enumerate(jobs):
            yield index, self._worker.loss(*job)

    def close(self) -> None:
        """Do nothing, because nothing was started."""


class Processes:
    """Several workers, each a process on this machine with its own model."""

    def __init__(self, laboratory: Laboratory, count: int) -> None:
        # spawn, because a forked process can use neither CUDA nor its parent's OpenMP threads.
        context = multiprocessing.get_context("spawn")
        numbers = context.Value("i", 0)
        self._pool = ProcessPoolExecutor(count, context, _start, (laboratory, numbers))

    def losses(self, jobs: list[Job]) -> Iterator[tuple[int, float]]:
        """The index and loss of each job, as the jobs finish."""
        futures: dict[Future[float], int] = {
            self._pool.submit(_measure, *job): index for index, job in enumerate(jobs)
        }
        for future in as_completed(futures):
            try:
                loss = future.result()
            except BrokenExecutor:
                raise UsageError(
                    "A worker was ended from outside, as happens where memory is short: start "
                    "fewer of them with --workers; the log keeps what was measured."
                ) from None
            yield futures[future], loss

    def close(self) -> None:
        """Cancel the jobs that have not started, and end the processes."""
        self._pool.shutdown(cancel_futures=True)


class RayCluster:
    """Workers that are actors in a Ray cluster; every node needs the model's directory."""

    def __init__(self, laboratory: Laboratory, count: int, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("Ray is not installed: `pip install 'longrope[ray]'`.") from None
        from ray.util import ActorPool

        self._ray = ray
        ray.init(
            address=None if address == "local" else address,
            log_to_driver=False,
            include_dashboard=False,
        )
        resources: dict[str, Any] = {"num_cpus": laboratory.threads}
        if laboratory.device in (None, "cuda") and ray.cluster_resources().get("GPU"):
            resources = {"num_gpus": 1}
        # If a node dies, its worker is started again and repeats its evaluation.
        remote = ray.remote(max_restarts=-1, max_task_retries=-1, **resources)(_RayWorker)
        self._actors = ActorPool([remote.remote(laboratory) for _ in range(count)])

    def losses(self, jobs: list[Job]) -> Iterator[tuple[int, float]]:
        """The index and loss of each job, as the jobs finish."""
        results: Iterable[tuple[int, float]] = self._actors.map_unordered(
            lambda actor, job: actor.indexed_loss.remote(*job), list(enumerate(jobs))
        )
        yield from results

    def close(self) -> None:
        """Leave the cluster, which ends the actors."""
        self._ray.shutdown()


class _RayWorker(Worker):
    """A worker that also returns a job's index, because ActorPool returns only values."""

    def indexed_loss(self, index: int, job: Job) -> tuple[int, float]:
        """The job's index and loss."""
        return index, self.loss(*job)


def workers(laboratory: Laboratory, count: int, ray_address: str | None) -> Workers:
    """The workers that the settings ask for."""
    if ray_address is not None:
        return RayCluster(laboratory, count, ray_address)
    return Here(laboratory) if count == 1 else Processes(laboratory, count)


_laboratory: tuple[Laboratory, int]  # set once in each worker process by _start


def _start(laboratory: Laboratory, numbers: Any) -> None:
    global _laboratory
    # A killed search cannot end its workers, and they must not keep a GPU's memory forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    _laboratory = (laboratory, number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@functools.cache
def _worker() -> Worker:
    """This process's own: made with its first job, whose result can be an error."""
    return Worker(*_laboratory)


def _measure(factor_set: FactorSet, document: int) -> float:
    return _worker().loss(factor_set, document)
