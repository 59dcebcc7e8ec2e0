"""The GPU's kernel, run by Triton's interpreter: the same arithmetic, on a CPU.

Tolerances: against float64, one rounding to the output's dtype, and 4e-6 for float32's arithmetic
on values up to 5. The interpreter cuts bfloat16 off where a GPU rounds to nearest. Where there is a
GPU, the same tests run on it.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longrope_factors.factor_file.schema import FactorFile
from longrope_plugin.rotation import kernel
from longrope_plugin.rotation.packing import pack
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
from longrope_plugin.rotation.turns import turn_table
from torch._inductor import config as inductor
from torch._inductor.utils import run_and_get_code

from tests.plugin.conftest import ON_GPU
from tests.plugin.fresh import run
from tests.plugin.models import random_factor_file
from tests.plugin.reference import angles

LAST = 2_097_151
LIMITS = [4096, 65_536, LAST + 1]
LIBRARY = Path(__file__).parents[2] / "factors" / "library"


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """Triton asks the environment when a kernel is defined. On a GPU it runs on that."""
    kernel.register()
    if ON_GPU:
        torch.set_default_device("cuda")
        yield
        torch.set_default_device(None)
        return
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        yield


def tables(factor_file: FactorFile) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    table = turn_table(factor_file)
    return table.turns, table.start_tokens, table.attention_factor


def expected(
    x: torch.Tensor, packed: torch.Tensor, factor_file: FactorFile, is_neox_style: bool
) -> torch.Tensor:
    """The equation in float64 for x [n, heads, head_size]; the set of each token is packed."""
    rotary_dim = factor_file.model.rotary_dim
    turned = np.empty((len(x), rotary_dim // 2))
    factor = np.empty(len(x))
    for n, packed_token in enumerate(packed.tolist()):
        factor_set = factor_file.sets[min(max(packed_token >> 32, 0), len(factor_file.sets) - 1)]
        turned[n] = angles(np.array([packed_token & 0xFFFFFFFF]), factor_set, factor_file.model)[0]
        factor[n] = factor_set.attention_factor
    cos, sin = (
        torch.from_numpy(f(turned) * factor[:, None])[:, None].to(x.device)
        for f in (np.cos, np.sin)
    )
    result = x.double().clone()
    half = rotary_dim // 2
    first = slice(0, half) if is_neox_style else slice(0, rotary_dim, 2)
    second = slice(half, rotary_dim) if is_neox_style else slice(1, rotary_dim, 2)
    a, b = x[..., first].double(), x[..., second].double()
    result[..., first] = a * cos - b * sin
    result[..., second] = b * cos + a * sin
    return result


def assert_rounded_once(actual: torch.Tensor, exact: torch.Tensor) -> None:
    is_cut_off = actual.dtype == torch.bfloat16 and not ON_GPU
    rounding = torch.finfo(actual.dtype).eps / (1 if is_cut_off else 2)
    tolerance = rounding * exact.abs() + 4e-6
    assert ((actual.double() - exact).abs() <= tolerance).all()


def projection(
    tokens: int, heads: tuple[int, int], head_size: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v as slices of one projection, as in a model."""
    widths = [heads[0] * head_size, heads[1] * head_size, heads[1] * head_size]
    query, key, value = torch.randn(tokens, sum(widths)).to(dtype).split(widths, dim=-1)
    return query, key, value


def check(
    packed: torch.Tensor,
    factor_file: FactorFile,
    heads: tuple[int, int],
    head_size: int,
    is_neox_style: bool = True,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Both operators against float64, on slices of a projection whose rest stays."""
    query, key, value = projection(len(packed), heads, head_size, dtype)
    rest = value.clone()
    exact = [
        expected(x.view(len(packed), -1, head_size), packed, factor_file, is_neox_style)
        for x in (query, key)
    ]
    before = query.clone(), key.clone()
    arguments = (packed, query, key, *tables(factor_file), head_size, is_neox_style)
    rotated = torch.ops.longrope.rotated(*arguments)
    assert torch.equal(query, before[0])
    assert torch.equal(key, before[1])
    torch.ops.longrope.rotate_(*arguments)
    assert torch.equal(value, rest)
    for in_place, new, exactly in zip((query, key), rotated, exact, strict=True):
        assert torch.equal(in_place, new)
        assert new.is_contiguous()
        assert_rounded_once(new.view(exactly.shape), exactly)


def packed_with(positions: np.ndarray, index: int) -> torch.Tensor:
    return pack(torch.tensor(positions), torch.full((len(positions),), index))


def mixed(tokens: int, sets: int = 3) -> torch.Tensor:
    positions = np.random.default_rng(tokens).integers(0, LAST + 1, tokens)
    return pack(torch.tensor(positions), torch.arange(tokens) % sets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("is_neox_style", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize(
    ("heads", "head_size", "rotary_dim"),
    [((8, 8), 128, 128), ((9, 3), 64, 64), ((4, 1), 96, 96), ((5, 2), 80, 32), ((3, 1), 24, 12)],
    ids=["mha", "gqa", "not-a-power-of-two", "partial", "odd"],
)
def test_shapes(
    heads: tuple[int, int], head_size: int, rotary_dim: int, is_neox_style: bool, dtype: torch.dtype
) -> None:
    factor_file = random_factor_file(rotary_dim, LIMITS)
    check(mixed(19), factor_file, heads, head_size, is_neox_style, dtype)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 40),
    heads=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pairs=st.integers(1, 40),
    rest=st.integers(0, 20),
    sets=st.integers(1, 4),
    is_neox_style=st.booleans(),
    seed=st.integers(0, 100),
)
@pytest.mark.long
def test_any_shape(
    tokens: int,
    heads: tuple[int, int],
    pairs: int,
    rest: int,
    sets: int,
    is_neox_style: bool,
    seed: int,
) -> None:
    factor_file = random_factor_file(2 * pairs, [64 * 2**i for i in range(sets)], seed=seed)
    check(mixed(tokens, sets), factor_file, heads, 2 * pairs + rest, is_neox_style)


def angles_of(packed: torch.Tensor, factor_file: FactorFile) -> np.ndarray:
    """The kernel's own angles, [n, pairs] radians: what it makes of the vectors (1, 0)."""
    half = factor_file.model.rotary_dim // 2
    x = torch.cat((torch.ones(len(packed), half), torch.zeros(len(packed), half)), dim=1)
    kernel.launch(packed, x, None, x, None, *tables(factor_file), 2 * half, True,
                  block_tokens=512, block_heads=1)  # fmt: skip
    return np.arctan2(x[:, half:].double().cpu().numpy(), x[:, :half].double().cpu().numpy())


@pytest.mark.parametrize("theta", [10_000.0, 1e8, 101.0])
def test_angles_are_exact_at_every_position(theta: float) -> None:
    """Within 1e-6 rad of float64 up to position 2,097,151."""
    factor_file = random_factor_file(64, LIMITS, theta=theta)
    positions = np.unique(
        np.concatenate(
            (
                np.arange(20),
                np.random.default_rng(0).integers(0, LAST, 1000),
                *[np.arange(limit - 3, limit + 3) for limit in LIMITS],
                2 ** np.arange(21),
                2 ** np.arange(1, 22) - 1,
            )
        )
    )
    positions = positions[positions <= LAST]
    for index, factor_set in enumerate(factor_file.sets):
        packed = packed_with(positions, index)
        error = angles_of(packed, factor_file) - angles(positions, factor_set, factor_file.model)
        assert np.abs((error + np.pi) % (2 * np.pi) - np.pi).max() < 1e-6


def test_around_every_quarter_turn() -> None:
    """Where the reduction changes its mind: multiples of an eighth of a turn, and beside them."""
    units = np.array(
        [
            ((eighth << 61) + side) % 2**64
            for eighth in range(8)
            for side in (0, 1, -1, 2**31, -(2**31), 2**32, -(2**32))
        ],
        dtype=np.uint64,
    )
    turns = torch.tensor(units.view(np.int64)).repeat(2, 1)
    count = turns.shape[1]
    x = torch.cat((torch.ones(1, count), torch.zeros(1, count)), dim=1)
    one, factor = torch.zeros(1, dtype=torch.int64), torch.ones(1)
    torch.ops.longrope.rotate_(torch.ones(1).long(), x, None, turns, one, factor, 2 * count, True)
    exact = units / 2.0**64 * 2 * np.pi
    np.testing.assert_allclose(x[0, :count].cpu().numpy(), np.cos(exact), atol=2e-7)
    np.testing.assert_allclose(x[0, count:].cpu().numpy(), np.sin(exact), atol=2e-7)


def test_start_tokens_turn_unscaled() -> None:
    factor_file = random_factor_file(32, LIMITS, start_tokens=4)  # 0, 4 and 8
    for index, start_tokens in enumerate((0, 4, 8)):
        positions = np.arange(1, 12)
        packed = packed_with(positions, index)
        turned = angles_of(packed, factor_file)
        plain = positions[:, None] * 10_000.0 ** (-np.arange(16) / 16)
        plain = (plain + np.pi) % (2 * np.pi) - np.pi
        is_plain = np.abs(turned - plain).max(axis=1) < 1e-6
        assert is_plain.tolist() == (positions < start_tokens).tolist()


def test_set_and_position_do_not_mix() -> None:
    """The largest position that fits below the set does not reach it, nor the set the position."""
    factor_file = random_factor_file(64, LIMITS)
    check(pack(torch.tensor([2**31 - 1, 2**31 - 1, 0]), torch.tensor([0, 2, 2])), factor_file,
          (2, 1), 64)  # fmt: skip
    turned = angles_of(torch.tensor([5, 5 | 1 << 32, 5 | 2 << 32]), factor_file)
    assert len(np.unique(turned[:, 3].round(6))) == 3


def test_any_packed_position_is_harmless() -> None:
    """Padding of dummy runs: a set that is not there is the nearest one, and nothing is read
    beside the tables."""
    factor_file = random_factor_file(64, LIMITS)
    plain = tables(factor_file)
    guarded = []
    for table in plain:
        flat = torch.full((table.numel() + 2048,), 77, dtype=table.dtype)
        flat[1024:-1024] = table.flatten()
        guarded.append(flat[1024:-1024].view(table.shape))
    packed = torch.tensor([-1, -(2**63), 2**63 - 1, 3 << 32, 10**6 << 32, -(1 << 32) | 7])
    clamped = (packed & 0xFFFFFFFF) | (packed >> 32).clamp(0, 2) << 32
    query, key, _ = projection(len(packed), (3, 1), 64, torch.float32)
    results = [
        torch.ops.longrope.rotated(positions, query, key, *all_tables, 64, True)
        for positions, all_tables in ((packed, guarded), (clamped, plain))
    ]
    for strange, known in zip(*results, strict=True):
        assert torch.equal(strange, known)


def test_without_key_without_tokens_and_by_head() -> None:
    factor_file = random_factor_file(64, LIMITS)
    arguments = (*tables(factor_file), 64, True)
    packed = mixed(7)
    query, key, _ = projection(7, (3, 2), 64, torch.float32)
    both = torch.ops.longrope.rotated(packed, query, key, *arguments)
    alone, nothing = torch.ops.longrope.rotated(packed, query, None, *arguments)
    assert torch.equal(alone, both[0])
    assert nothing.numel() == 0
    by_head = query.view(7, 3, 64), key.view(7, 2, 64)
    for x, y in zip(torch.ops.longrope.rotated(packed, *by_head, *arguments), both, strict=True):
        assert torch.equal(x.flatten(1), y)
    empty = torch.ops.longrope.rotated(packed[:0], query[:0], key[:0], *arguments)
    assert [x.shape for x in empty] == [(0, 192), (0, 128)]
    torch.ops.longrope.rotate_(packed[:0], query[:0], key[:0], *arguments)


def test_any_strides() -> None:
    """Heads apart from one another and rows of one tensor: as in multi-head latent attention."""
    factor_file = random_factor_file(32, LIMITS)
    packed = mixed(9)
    query = torch.randn(9, 4, 96)[:, :, 64:]
    key = torch.randn(9, 200)[:, 100:132].unsqueeze(1)
    exact = [expected(x, packed, factor_file, True) for x in (query, key)]
    torch.ops.longrope.rotate_(packed, query, key, *tables(factor_file), 32, True)
    assert_rounded_once(query, exact[0])
    assert_rounded_once(key, exact[1])


@pytest.mark.parametrize("programs", [1, 4, 10_000])
@pytest.mark.parametrize("block_tokens", [1, 8])
def test_blocks_make_no_difference(programs: int, block_tokens: int) -> None:
    factor_file = random_factor_file(64, LIMITS)
    packed = mixed(11)
    query, key, _ = projection(11, (9, 3), 64, torch.bfloat16)
    usual = torch.ops.longrope.rotated(packed, query, key, *tables(factor_file), 64, True)
    results = torch.zeros_like(usual[0]), torch.zeros_like(usual[1])
    kernel.launch(packed, query, key, *results, *tables(factor_file), 64, True,
                  block_heads=2, block_tokens=block_tokens, programs=programs)  # fmt: skip
    for x, y in zip(results, usual, strict=True):
        assert torch.equal(x, y)


@pytest.fixture
def on_this_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "device_type", lambda: "cuda" if ON_GPU else "cpu")


@pytest.mark.usefixtures("on_this_device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_layer_rotates_in_place_as_the_traceable_form_does(dtype: torch.dtype) -> None:
    layer = LongRoPERotaryEmbedding(random_factor_file(32, LIMITS), 64, is_neox_style=True)
    packed = mixed(10)
    query, key, _ = projection(10, (9, 3), 64, dtype)
    cos_sin = turn_table(layer.factor_file).cos_sin(packed, dtype)
    traced = [layer._rotate(x, cos_sin) for x in (query, key)]
    results = layer(packed, query, key)
    assert results[0] is query
    assert results[1] is key
    # In bfloat16, two roundings of the result and those of its two terms.
    atol, rtol = (2e-6, 0) if dtype == torch.float32 else (0.05, 2**-6)
    for x, y in zip(results, traced, strict=True):
        torch.testing.assert_close(x, y, atol=atol, rtol=rtol)


@pytest.mark.usefixtures("on_this_device")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_layer_compiles(backend: str) -> None:
    """One graph for any number of tokens, which leaves its inputs alone."""
    layer = LongRoPERotaryEmbedding(random_factor_file(64, LIMITS), 64, is_neox_style=True)
    compiled = torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)
    for tokens in (4, 9):
        packed = mixed(tokens)
        query, key, _ = projection(tokens, (3, 1), 64, torch.float32)
        before = query.clone()
        with torch.inference_mode():
            results = compiled(packed, query, key)
            alone = compiled(packed, query)
        assert torch.equal(query, before)
        assert alone[1] is None
        for x, y in zip(results, layer(packed, query, key), strict=True):
            torch.testing.assert_close(x, y)
        torch.testing.assert_close(alone[0], query)


@pytest.mark.long
@pytest.mark.skipif(ON_GPU, reason="reads code that was made for a CPU")
@pytest.mark.usefixtures("on_this_device")
def test_compiled_code_copies_nothing() -> None:
    """With vLLM's settings, under which the operator in place costs copies of the projection."""
    layer = LongRoPERotaryEmbedding(random_factor_file(64, LIMITS), 64, is_neox_style=True)

    weight = torch.randn(32, 320)

    def attention_input(
        hidden: torch.Tensor, packed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        query, key, value = (hidden @ weight).split([192, 64, 64], dim=-1)
        return *layer(packed, query, key), value

    with torch.inference_mode(), inductor.patch(enable_auto_functionalized_v2=False):
        compiled = torch.compile(attention_input, fullgraph=True, dynamic=True)
        _, (code,) = run_and_get_code(compiled, torch.randn(5, 32), mixed(5))
    assert code.count("torch.ops.longrope.rotated.default(") == 1
    assert "extern_kernels.mm(" in code
    assert "cpp_fused" not in code


@pytest.mark.parametrize("name", ["rotate_", "rotated"])
@pytest.mark.parametrize("has_key", [True, False])
def test_operators_keep_torchs_promises(name: str, has_key: bool) -> None:
    query, key, _ = projection(3, (2, 1), 16, torch.float32)
    arguments = (
        mixed(3),
        query.clone(),
        key.clone() if has_key else None,
        *tables(random_factor_file(16, LIMITS)),
        16,
        True,
    )
    torch.library.opcheck(getattr(torch.ops.longrope, name).default, arguments)


@pytest.mark.skipif(not ON_GPU, reason="graphs are a GPU's")
@pytest.mark.usefixtures("on_this_device")
def test_a_graph_replays_with_other_positions() -> None:
    layer = LongRoPERotaryEmbedding(random_factor_file(64, LIMITS), 64, is_neox_style=True)
    query, key, _ = projection(9, (3, 1), 64, torch.bfloat16)
    packed, before = mixed(9), (query.clone(), key.clone())
    layer(packed, query.clone(), key.clone())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        layer(packed, query, key)
    packed += 1000
    query.copy_(before[0])
    key.copy_(before[1])
    graph.replay()
    for x, y in zip((query, key), layer(packed, *before), strict=True):
        assert torch.equal(x, y)


def test_registration_is_idempotent() -> None:
    assert kernel.register() is kernel.register()


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
@pytest.mark.long
def test_without_a_gpu_nothing_is_registered_or_imported() -> None:
    code = f"""
import sys
import torch
from longrope_factors.factor_file.schema import load
from longrope_plugin.rotation.rotary import LongRoPERotaryEmbedding
layer = LongRoPERotaryEmbedding(load({str(LIBRARY / "smollm2-135m.json")!r}), 64, True)
print(layer._kernel_device, hasattr(torch.ops.longrope, "rotate_"),
      "longrope_plugin.rotation.kernel_triton" in sys.modules)
"""
    assert run(code).split() == ["None", "False", "False"]


def test_a_gpu_without_triton_falls_back_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton.runtime", None)
    assert kernel.device_type.__wrapped__() is None
    assert "Triton cannot be used on this GPU (ModuleNotFoundError" in caplog.text


CONSTANTS = {
    "sets": 3,
    "pairs": 64,
    "head_size": 128,
    "query_heads": 32,
    "key_heads": 8,
    "is_neox_style": True,
    "in_place": True,
    "block_tokens": 4,
    "block_heads": 4,
    "block_pairs": 64,
    "block_rest": 1,
}


@pytest.mark.long
def test_compiles_for_gpus(tmp_path: Path) -> None:
    """Triton's compiler needs no GPU: no spilt registers, and memory moved 16 bytes at a time."""
    code = f"""
import json, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from longrope_plugin.rotation.kernel_triton import rotate
constants = {CONSTANTS!r}
types = {{name: "*bf16" for name in ("query", "key", "rotated_query", "rotated_key")}}
types |= dict(packed="*i64", turns="*i64", start_tokens="*i64", attention_factor="*fp32")
types |= {{name: "i32" for name in rotate.arg_names if name.endswith("_stride")}}
aligned = {{(i,): [["tt.divisibility", 16]] for i, name in enumerate(rotate.arg_names)
           if name in types}}
signature = {{name: types.get(name, "constexpr" if name in constants else "i32")
             for name in rotate.arg_names}}
for target, warps in ((("cuda", 90, 32), 4), (("hip", "gfx942", 64), 2)):
    source = ASTSource(rotate, signature, constants, aligned)
    assembly = triton.compile(source, GPUTarget(*target), {{"num_warps": warps}}).asm
    print(json.dumps(assembly.get("ptx") or assembly["amdgcn"]))
"""
    ptx, amdgcn = map(json.loads, run(code, TRITON_CACHE_DIR=str(tmp_path)).splitlines())
    assert "cvt.rn.bf16x2.f32" in ptx  # to nearest
    # Of each half of the pairs one, in the first block and in the others.
    assert ptx.count("ld.global.v4.b32") == ptx.count("st.global.v4.b32") == 2 * 2
    assert ptx.partition("bar.sync")[0].count("ld.global.v4.b32") == 2
    assert ".local" not in ptx
    assert amdgcn.count("global_store_dwordx4") == 2
    assert "vgpr_spill_count: 0" in " ".join(amdgcn.split())
