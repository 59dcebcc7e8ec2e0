"""What training does differently on a GPU."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from longrope_factors.finetuning import attention, jobs
from longrope_factors.finetuning.data import loader, sequences

from tests.factors import finetuning


@pytest.mark.long
def test_other_processes_make_the_same_batches(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, positions="skip", window=finetuning.ORIGINAL)
    job = jobs.checked(settings)
    documents = job.corpus.documents
    planned = sequences.sequences([len(document) for document in documents], job.mixture)
    of_two_steps = list(itertools.islice(planned, 6))
    here, elsewhere = (
        list(
            loader.of_steps(
                of_two_steps, documents, job.tokenizer, job.mixture, size=3, workers=workers
            )
        )
        for workers in (0, 1)
    )
    assert [len(batches) for batches in here] == [3, 3]
    for one, other in zip(itertools.chain(*here), itertools.chain(*elsewhere), strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_one_call_attends_as_one_for_each_document() -> None:
    lengths = (300, 7, 7, 511, 129)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 3, True
    generator = torch.Generator("cuda").manual_seed(0)
    inputs = [
        torch.randn(1, heads, sum(lengths), 64, generator=generator, device="cuda")
        for heads in (9, 3, 3)
    ]
    results = []
    for dtype in (torch.bfloat16, torch.float32):  # in float32, one call for each document
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        output, _ = attention._within_documents(module, *leaves, None, lengths, scaling=0.125)
        output.square().sum().backward()
        results.append([output, *(leaf.grad for leaf in leaves)])
    for at_once, by_document in zip(*results, strict=True):
        error = (at_once.float() - by_document).norm() / by_document.norm()
        assert error < 2e-2
