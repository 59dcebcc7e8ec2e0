"""Sets travel inside positions, at the addresses that a CUDA graph was captured with."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_plugin.rotation.packing import pack, unpack

from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import engine, generate, random_prompts, scheduler, tokens
from tests.plugin.fresh import run
from tests.plugin.models import tiny_model
from tests.plugin.reference import Reference


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """Triton asks the environment when a kernel is defined. On a GPU it runs on that."""
    with mock.patch.dict(os.environ, {} if ON_GPU else {"TRITON_INTERPRET": "1"}):
        yield


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    padding=st.integers(0, 2000),
    data=st.data(),
)
def test_a_batch_is_packed_by_its_requests_slots(
    lengths: list[int], padding: int, data: st.DataObject
) -> None:
    from longrope_plugin.rotation.packing_triton import pack_batch

    with torch.device("cuda" if ON_GPU else "cpu"):
        slots = torch.tensor(data.draw(st.permutations(range(8))))[: len(lengths)]
        factor_sets = torch.tensor(
            data.draw(st.lists(st.integers(0, 5), min_size=8, max_size=8)), dtype=torch.int32
        )
        tokens = sum(lengths)
        positions = torch.randint(0, 2_097_152, (tokens + padding,))
        query_start_loc = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        packed = torch.full((tokens + padding,), -1)
        pack_batch(positions, factor_sets, slots, query_start_loc, packed)
        sets = factor_sets[slots].repeat_interleave(torch.tensor(lengths)).long()
        assert torch.equal(packed[:tokens], pack(positions[:tokens], sets))
        assert not packed[tokens:].any()
        assert all(map(torch.equal, unpack(packed[:tokens]), (positions[:tokens], sets)))


@pytest.mark.both_runners
def test_what_a_captured_graph_reads_is_what_was_packed(tmp_path: Path) -> None:
    """A graph reads the memory of the run that it was captured in: so does this model."""
    model = tiny_model(tmp_path)
    reference = Reference(model.directory, model.factor_file)
    with engine(model, enforce_eager=True) as llm:
        runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.model_runner
        captured: list[torch.Tensor] = []

        def capture(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            captured.append(kwargs["positions"])

        with runner.get_model().register_forward_pre_hook(capture, with_kwargs=True):
            runner._dummy_run(64)

        def replay(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**kwargs, "positions": captured[-1][: len(kwargs["positions"])]}

        with runner.get_model().register_forward_pre_hook(replay, with_kwargs=True):
            prompts = random_prompts([5, 63, 65, 127, 140], seed=13)
            outputs = tokens(generate(llm, prompts, max_tokens=4))
        assert len(captured[-1]) == 64
        assert scheduler(llm).promotions == 2
    for prompt, output in zip(prompts, outputs, strict=True):
        reference.expect(prompt, output)


def test_compiles_for_gpus(tmp_path: Path) -> None:
    """Triton's compiler needs no GPU."""
    code = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from longrope_plugin.rotation.packing_triton import _pack_batch as kernel
types = dict(positions="*i64", factor_sets="*i32", slots="*i64", query_start_loc="*i32",
             packed="*i64", size="i32", block="constexpr")
for target in (("cuda", 90, 32), ("hip", "gfx942", 64)):
    source = ASTSource(kernel, types, {"block": 1024})
    print(len(triton.compile(source, target=GPUTarget(*target)).asm))
"""
    run(code, TRITON_CACHE_DIR=str(tmp_path))
