"""The GPU benchmark's own parts, without a GPU."""

import io
import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from longrope_plugin import kernel
from longrope_plugin.bench import gpu
from rich.console import Console
from typer.testing import CliRunner

SHAPE = gpu.Shape("small", 3, 1, 64)


@pytest.fixture(autouse=True)
def small_and_interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gpu, "POSITIONS", 8192)
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        yield


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    app = gpu.typer.Typer()
    app.command()(gpu.main)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert result.output == (
        "This benchmark needs a GPU that PyTorch and Triton can use, and there is none here.\n"
    )


def test_bytes_and_calls() -> None:
    llama, mistral, smollm = gpu.SHAPES
    assert llama.moved_bytes(1) == 2 * 2 * (32 + 32) * 128
    assert mistral.moved_bytes(10) == 10 * 2 * 2 * (32 + 8) * 128
    assert smollm.widths == [576, 192, 192]
    assert (llama.calls(1), llama.calls(1024), llama.calls(32_768)) == (32, 8, 1)
    assert [gpu.table_bytes(SHAPE)[key] for key in ("ours", "table")] == [792, 8192 * 64 * 2]


def test_ratios_and_their_table() -> None:
    times = {"in_place": 2e-6, "compiled": 3e-6, "moved": 1e-6, "table": 4e-6}
    row = gpu.row(gpu.SHAPES[0], 1024, times)
    assert row["in_place/moved"] == 2
    assert row["in_place/table"] == 0.5
    assert row["compiled/moved"] == 3
    assert row["in_place/phi3"] is None
    assert row["bytes_per_second"] == 1024 * 32_768 / 2e-6
    console = Console(width=200, file=io.StringIO())
    console.print(gpu.table([row]))
    cells = console.file.getvalue().splitlines()[-2].replace("│", " ").split()
    assert cells == (
        ["LLaMA2-7B", "1,024", "2.0", "-", "-", "0.50", "2.00", "3.0", "-", "3.00", "16777"]
    )


def test_the_kernel_is_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "device_type", lambda: "cpu")
    gpu.check(SHAPE)
    with (
        mock.patch.object(kernel, "launch"),
        pytest.raises(RuntimeError, match="wrong for small: it is off by"),
    ):
        gpu.check(SHAPE)


def test_moving_once_touches_all_of_q_and_k_and_nothing_else() -> None:
    each = gpu.Tokens.of(SHAPE, 6)
    projection = each.query._base
    before = projection.clone()
    gpu.moved_once(each)
    assert torch.equal(projection[:, :256], -before[:, :256])
    assert torch.equal(projection[:, 256:], before[:, 256:])


def test_the_table_in_triton_rotates_as_vllms_kernel_does() -> None:
    assert gpu.has_vllms_kernel()
    ours, theirs = (gpu.Tokens.of(SHAPE, 9) for _ in range(2))
    theirs.query.copy_(ours.query)
    theirs.key.copy_(ours.key)
    table = gpu.plain_table(SHAPE)
    gpu.by_table_in_triton(ours, table, SHAPE)
    gpu.by_vllms_kernel(theirs, table, SHAPE)
    torch.testing.assert_close(ours.query, theirs.query, atol=0.04, rtol=0)
    torch.testing.assert_close(ours.key, theirs.key, atol=0.04, rtol=0)


def test_vllms_longrope_layer_rotates_as_ours_does() -> None:
    """The longer set's layer of vLLM's, and ours of the same factor file."""
    theirs = gpu.vllm_longrope(SHAPE)
    assert theirs is not None
    ours = gpu.LongRoPERotaryEmbedding(gpu.factor_file(SHAPE), 64, is_neox_style=True)
    each = gpu.Tokens.of(SHAPE, 9, torch.float32)
    packed = each.positions | 1 << 32
    expected = theirs(each.positions, each.query, each.key)
    factor = theirs.long_mscale
    for x, y in zip(ours(packed, each.query, each.key), expected, strict=True):
        torch.testing.assert_close(x * factor, y, atol=0.05, rtol=0)
