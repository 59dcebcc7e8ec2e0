"""The dtype by what a CPU has: flags as Linux prints them in /proc/cpuinfo, of several CPUs."""

from pathlib import Path

import pytest
import torch
from longrope_factors import cpu
from longrope_server.serve import embedded, precision

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"
ICE_LAKE = f"{AVX512} avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq"
ZEN_3 = "fma avx f16c avx2 bmi1 bmi2 rdseed adx clflushopt clwb sha_ni vaes vpclmulqdq"
GRAVITON_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc asimddp"
)
M1 = f"{GRAVITON_2} jscvt fcma dcpop sha3 sha512 asimdfhm dit uscat ilrcpc flagm sb paca pacg frint"

X86 = {
    "Haswell": ("fma avx avx2 bmi1 bmi2 f16c", False),
    "Skylake-SP": (AVX512, False),
    "Cascade Lake": (f"{AVX512} avx512_vnni", False),
    "Cooper Lake": (f"{AVX512} avx512_vnni avx512_bf16", True),
    "Ice Lake-SP": (ICE_LAKE, False),
    "Sapphire Rapids": (
        f"{ICE_LAKE} avx_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8",
        True,
    ),
    "Sierra Forest": (f"{ZEN_3} avx_vnni avx_vnni_int8 avx_ne_convert", False),
    "Zen 3": (ZEN_3, False),
    "Zen 4": (f"{ZEN_3} {ICE_LAKE} avx512_bf16", True),
    "Zen 5": (f"{ZEN_3} {ICE_LAKE} avx_vnni avx512_bf16 avx512_vp2intersect", True),
}
ARM = {
    "Cortex-A72": ("fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", False),
    "Graviton 2": (GRAVITON_2, False),
    "Graviton 3": (f"{GRAVITON_2} fcma sve svei8mm svebf16 i8mm bf16 dgh rng", True),
    "Graviton 4": (f"{GRAVITON_2} fcma sve sve2 svei8mm svebf16 i8mm bf16 dgh rng bti", True),
    "Ampere Altra": (GRAVITON_2, False),
    "Apple M1": (M1, False),
    "Apple M2": (f"{M1} i8mm bf16", True),
}
CASES = [
    pytest.param({name: name in flags.split() for name in names}, has, id=cpu)
    for cpus, names in ((X86, ("avx2", "avx512_bf16", "amx_bf16")), (ARM, ("neon", "bf16")))
    for cpu, (flags, has) in cpus.items()
]
LACKS, HAS = {"avx512_bf16": False, "amx_bf16": False}, {"avx512_bf16": True, "amx_bf16": False}


@pytest.mark.parametrize(("capabilities", "has"), CASES)
def test_a_cpu_has_bfloat16_or_not(capabilities: dict[str, bool], has: bool) -> None:
    assert cpu.lacks_bfloat16(capabilities) is not has


def test_of_an_unknown_kind_of_cpu_nothing_is_said() -> None:
    assert not cpu.lacks_bfloat16({"architecture": "riscv64", "l2_cache_size": 1})


def test_the_names_are_those_that_torch_has_for_this_cpu() -> None:
    told = torch.cpu.get_capabilities().keys() & set(cpu.MULTIPLY_BFLOAT16)
    assert told in ({"avx512_bf16", "amx_bf16"}, {"bf16"})


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("LONGROPE_CACHE", str(tmp_path))
    return str(tmp_path / embedded.NAME)


def test_the_embedded_model_gets_what_is_faster(ours: str) -> None:
    words, note = precision.chosen([ours, "--port", "9"], LACKS)
    assert words == ["--dtype", "float32"]
    assert note is not None
    assert "--dtype is float32" in note
    assert precision.chosen([ours, "--port", "9"], HAS) == ([], None)


@pytest.mark.parametrize(
    "given",
    [["--dtype", "bfloat16"], ["--dtype=auto"], ["--port", "9", "--dtype", "float16"], None],
)
def test_a_dtype_that_somebody_chose_stays(
    ours: str, given: list[str] | None, tmp_path: Path
) -> None:
    if given is None:
        file = tmp_path / "config.yaml"
        file.write_text("dtype: bfloat16\n")
        given = ["--config", str(file), "--port", "9"]
    for model in (ours, "/another/model"):
        assert precision.chosen([model, *given], LACKS) == ([], None)


@pytest.mark.parametrize("model", ["/another/model", "microsoft/Phi-4-mini-instruct", "."])
def test_the_owner_of_another_model_is_told(ours: str, model: str) -> None:
    words, note = precision.chosen([model], LACKS)
    assert words == []
    assert note is not None
    assert "with --dtype float32" in note
    assert precision.chosen([model], HAS) == ([], None)
