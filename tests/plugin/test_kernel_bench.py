"""The GPU benchmark's own parts, without a GPU. Where there is one, they run on it."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from longrope_plugin.compat import hooks
from longrope_plugin.rotation import kernel

from bench.gpu import blocks, report, rotation, timing
from bench.vllm_longrope import vllm_longrope
from tests.plugin.conftest import ON_GPU
from tests.plugin.fresh import run

SHAPE = rotation.Shape("small", 3, 1, 64)


@pytest.fixture(autouse=True)
def small_and_interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rotation, "POSITIONS", 8192)
    if ON_GPU:
        torch.set_default_device("cuda")
        yield
        torch.set_default_device(None)
        return
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        yield


@pytest.fixture
def on_this_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "device_type", lambda: "cuda" if ON_GPU else "cpu")


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench-gpu"])
    with pytest.raises(SystemExit) as exit_:
        rotation.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "This benchmark needs a GPU that PyTorch and Triton can use, and there is none here.\n"
    )


@pytest.mark.long
def test_it_needs_no_more_than_torch_triton_and_pydantic() -> None:
    code = """
import sys
for name in ("longrope_factors", "longrope_plugin"):
    __import__(name)
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("vllm", "transformers", "typer", "rich", "httpx", "yaml"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
from bench.gpu import rotation
try:
    rotation.vllm_longrope(rotation.factor_file(rotation.SHAPES[0]), 128)
except ImportError as error:
    print(rotation.vllms_kernel_is_missing())
"""
    assert run(code) == "ModuleNotFoundError: vllm\n"


def test_bytes_and_calls() -> None:
    llama, mistral, smollm = rotation.SHAPES
    assert llama.moved_bytes(1) == 2 * 2 * (32 + 32) * 128
    assert mistral.moved_bytes(10) == 10 * 2 * 2 * (32 + 8) * 128
    assert smollm.widths == [576, 192, 192]
    assert (llama.calls(1), llama.calls(1024), llama.calls(32_768)) == (32, 8, 1)
    assert [rotation.table_bytes(SHAPE)[key] for key in ("ours", "table")] == [792, 8192 * 64 * 2]


def test_ratios_and_their_table() -> None:
    times = {"in_place": 2e-6, "compiled": 3e-6, "moved": 1e-6, "table": 4e-6}
    row = rotation.row(rotation.SHAPES[0], 1024, times)
    assert row["in_place/moved"] == 2
    assert row["in_place/table"] == 0.5
    assert row["compiled/moved"] == 3
    assert row["in_place/phi3"] is None
    assert row["bytes_per_second"] == 1024 * 32_768 / 2e-6
    cells = report.line(row).replace("|", " ").split()
    assert cells == (
        ["LLaMA2-7B", "1,024", "2.0", "-", "-", "0.50", "2.00", "16777", "3.0", "-", "3.00"]
    )
    *_, names, rule = report.head()
    assert len(names) == len(rule) == len(report.line(row))
    slower = rotation.row(rotation.SHAPES[1], 2048, times | {"in_place": 5e-6})
    assert list(report.largest([row, slower])) == [
        "in place / plain RoPE from a table: at most 1.25 (Mistral-7B, 2,048 tokens)",
        "in place / moving q and k once from 2,048 tokens: at most 5.00 (Mistral-7B, 2,048 tokens)",
        "compiled / moving q and k once from 2,048 tokens: at most 3.00 (Mistral-7B, 2,048 tokens)",
    ]


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the benchmark asks of torch.cuda, so that all of it runs on a CPU."""
    clock = SimpleNamespace(now=0.0)

    class Graph:
        def replay(self) -> None:
            clock.now += 0.5

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = clock.now

        def elapsed_time(self, end: "Event") -> float:
            return end.at - self.at

    for name, fake in {
        "CUDAGraph": Graph,
        "Event": Event,
        "graph": lambda _: contextlib.nullcontext(),
        "synchronize": lambda: None,
        "get_device_name": lambda: "a GPU",
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch, "set_default_device", lambda _: None)
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *args, **kwargs: compile_(*args, **{**kwargs, "backend": "eager"})
    )
    monkeypatch.setattr(timing, "OVERWRITTEN", 2**16)
    monkeypatch.setattr(timing, "COPIED", 2**10)
    monkeypatch.setattr(rotation, "SHAPES", (SHAPE,))
    monkeypatch.setattr(rotation, "TOKENS", (1, 33))


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
@pytest.mark.usefixtures("on_this_device", "fake_gpu")
@pytest.mark.long
def test_all_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["bench-gpu", "-o", str(output)])
    rotation.main()
    figures = json.loads(output.read_text())
    assert figures["device"] == "a GPU"
    assert figures["missing"] == {}
    assert figures["copied_bytes_per_second"] == pytest.approx(2 * 2**10 / 0.5e-3)
    # 2^16 bytes are 32 calls' of 1,024 bytes and one's of 33,792.
    in_place = [row["seconds"]["in_place"] for row in figures["rows"]]
    assert in_place == pytest.approx([0.5e-3 / 32, 0.5e-3])
    assert all(row[f"{x}/{y}"] == 1 for row in figures["rows"] for x, y in report.RATIOS)
    printed = capsys.readouterr().out
    assert all(report.line(row) in printed for row in figures["rows"])
    assert "small: 792 bytes kept for the angles of 8,192 positions" in printed
    assert "not measured" not in printed


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
@pytest.mark.usefixtures("on_this_device", "fake_gpu")
@pytest.mark.long
def test_what_vllm_lacks_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("no\nsuch thing")

    monkeypatch.setattr(sys, "argv", ["bench-gpu"])
    monkeypatch.setattr(rotation, "check", lambda _: None)  # it needs vLLM's kernel on a CPU
    monkeypatch.setattr(rotation, "vllm_longrope", missing)
    monkeypatch.setattr(hooks, "rotate_by_table", missing)
    rotation.main()
    printed = capsys.readouterr().out
    assert "a Triton kernel, for want of vLLM's (RuntimeError: no such thing)" in printed
    assert "phi3 was not measured: RuntimeError: no such thing" in printed
    assert "phi3_compiled was not measured" in printed
    assert "table was not measured" not in printed


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
@pytest.mark.usefixtures("on_this_device", "fake_gpu")
@pytest.mark.long
def test_block_sizes_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, sizes in {"HEADS": (4,), "ELEMENTS": (512,), "WARPS": (4,), "PROGRAMS": (1,)}.items():
        monkeypatch.setattr(blocks, name, sizes)
    blocks.main()
    printed = capsys.readouterr().out
    assert "small, 33 tokens: 500.00 us, 1.00 of the fastest, 1.00 of moving q and k" in printed
    assert "1.00: block_heads 4, block_tokens 4, num_warps 4, programs 1" in printed


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
@pytest.mark.usefixtures("fake_gpu")
def test_only_what_is_compared_with_may_fail() -> None:
    def fails(_: object) -> None:
        raise RuntimeError("out of memory")

    def works(_: object) -> None:
        pass

    missing: dict[str, str] = {}
    each = rotation.Tokens.of(SHAPE, 1)
    times = rotation.measure({"in_place": works, "phi3": fails}, [each, each], missing)
    assert times == {"in_place": pytest.approx(0.25e-3)}
    assert missing == {"phi3": "RuntimeError: out of memory"}
    with pytest.raises(RuntimeError, match="out of memory"):
        rotation.measure({"in_place": fails, "phi3": works}, [each], missing)


@pytest.mark.usefixtures("on_this_device")
def test_the_kernel_is_checked_first() -> None:
    rotation.check(SHAPE)
    with (
        mock.patch.object(kernel, "launch"),
        pytest.raises(RuntimeError, match="wrong for small: it is off by"),
    ):
        rotation.check(SHAPE)


@pytest.mark.parametrize("shape", [SHAPE, rotation.Shape("wider than a block", 9, 3, 64)], ids=str)
def test_moving_once_touches_all_of_q_and_k_and_nothing_else(shape: rotation.Shape) -> None:
    each = rotation.Tokens.of(shape, 19)
    before = each.projection.clone()
    rotation.moved_once(each, shape)
    width = sum(shape.widths[:2])
    assert torch.equal(each.projection[:, :width], -before[:, :width])
    assert torch.equal(each.projection[:, width:], before[:, width:])


@pytest.mark.parametrize("shape", [SHAPE, *rotation.SHAPES[1:]], ids=lambda shape: shape.name)
def test_the_table_in_triton_rotates_as_vllms_kernel_does(shape: rotation.Shape) -> None:
    if ON_GPU and (missing := rotation.vllms_kernel_is_missing()):
        pytest.skip(missing)
    ours, theirs = (rotation.Tokens.of(shape, 9) for _ in range(2))
    theirs.projection.copy_(ours.projection)
    table = rotation.plain_table(shape)
    rotation.by_table_in_triton(ours, table, shape)
    rotation.by_vllms_kernel(theirs, table, shape)
    torch.testing.assert_close(ours.projection, theirs.projection, atol=0.04, rtol=0)


def test_vllms_longrope_layer_rotates_as_ours_does() -> None:
    """The longer set's layer of vLLM's, and ours of the same factor file."""
    pytest.importorskip("vllm")
    theirs = vllm_longrope(rotation.factor_file(SHAPE), SHAPE.head_size)
    ours = rotation.LongRoPERotaryEmbedding(rotation.factor_file(SHAPE), 64, is_neox_style=True)
    each = rotation.Tokens.of(SHAPE, 9, torch.float32)
    packed = each.positions | 1 << 32
    expected = theirs(each.positions, each.query, each.key)
    factor = theirs.long_mscale
    for x, y in zip(ours(packed, each.query, each.key), expected, strict=True):
        torch.testing.assert_close(x * factor, y, atol=0.05, rtol=0)


def test_what_it_is_compared_with_moves_16_bytes_at_a_time_too(tmp_path: Path) -> None:
    code = """
import json, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bench.gpu.triton_variants import negate, rotate_by_table
for kernel, constants in (
    (negate, dict(width=5120, block_tokens=4, block_width=1024)),
    (rotate_by_table, dict(pairs=64, query_heads=32, key_heads=8, block_tokens=4,
                           block_heads=4, block_pairs=64)),
):
    types = {name: "*bf16" for name in ("x", "query", "key", "cos_sin")} | {"positions": "*i64"}
    types |= {name: "i32" for name in kernel.arg_names if name.endswith("stride")}
    signature = {name: types.get(name, "constexpr" if name in constants else "i32")
                 for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names)
               if name in types}
    source = ASTSource(kernel, signature, constants, aligned)
    print(json.dumps(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]))
"""
    printed = run(code, TRITON_CACHE_DIR=str(tmp_path))
    negate, rotate_by_table = map(json.loads, printed.splitlines())
    for ptx in (negate, rotate_by_table):
        assert ptx.count("ld.global.v4.b32") == ptx.count("st.global.v4.b32") == 4
        assert ".local" not in ptx
