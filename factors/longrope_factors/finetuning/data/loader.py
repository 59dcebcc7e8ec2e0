"""Make the batches of a run's steps, in processes of their own if there are `workers`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from longrope_factors.finetuning.data import batch
from longrope_factors.finetuning.data.batch import Batch
from longrope_factors.finetuning.data.documents import Tokens
from longrope_factors.finetuning.data.sequences import Mixture, Planned


class _Batches(Dataset[Batch]):
    def __init__(self, planned: Sequence[Planned], *material: Any) -> None:
        self._planned, self._material = planned, material

    def __len__(self) -> int:
        return len(self._planned)

    def __getitem__(self, index: int) -> Batch:
        return batch.made(self._planned[index], *self._material)


def of_steps(
    planned: Sequence[Planned],
    documents: Sequence[Tokens],
    tokenizer: Any,
    mixture: Mixture,
    *,
    size: int,
    workers: int,
) -> DataLoader[list[Batch]]:
    """The batches of the `planned` sequences in their order, `size` of them for each step.

    With `workers`, that many processes make the next steps' batches while a step is trained.
    """
    return DataLoader(
        _Batches(planned, documents, tokenizer, mixture),
        batch_size=size,
        collate_fn=list,
        num_workers=workers,
        # A forked process can use neither CUDA nor its parent's threads.
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator(),  # the global one is part of a checkpoint
    )
