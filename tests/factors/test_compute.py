"""A dtype or device that nobody has is refused at once: before torch, with nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest
from longrope_factors.models import compute

from tests.factors import tiny

# The command in a process of its own, which says at its end whether torch was imported.
COMMAND = """
import sys
from longrope_factors.cli import app
try:
    app(sys.argv[1:])
finally:
    print("torch" if "torch" in sys.modules else "no torch")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and beside it a text, factors and a plan, with which every command would run."""
    folder = tmp_path_factory.mktemp("compute")
    tiny.save(folder / "model", tiny.byte_level())
    (folder / "text.txt").write_text("ab cd" * 200)
    return folder / "model"


def plan(folder: Path, machine: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(
        'model = "model"\noutput = "out"\ncorpus = ["text.txt"]\nheld_out = ["other.txt"]\n'
        f"finetune_length = 128\n[machine]\n{machine}\n"
    )
    return path


DTYPES = "'bfloat16', 'float16', 'float32'"
DEVICES = "should be cpu, cuda, or cuda:N"


@pytest.mark.parametrize(
    ("command", "option", "value", "words"),
    [
        ("search", "--dtype", "bf16", "--dtype is \"bf16\"; it should be 'bfloat16', 'float16' or"),
        ("search", "--dtype", "torch.float32", "it should be 'bfloat16', 'float16' or 'float32'"),
        ("search", "--device", "foo", f"--device foo {DEVICES}"),
        ("search", "--device", "cuda:x", f"--device cuda:x {DEVICES}"),
        ("evaluate perplexity", "--dtype", "half", f"'half' is not one of {DTYPES}"),
        ("evaluate perplexity", "--device", "gpu", f"--device gpu {DEVICES}"),
        ("evaluate passkey", "--dtype", "", f"'' is not one of {DTYPES}"),
        ("evaluate passkey", "--device", "CPU", f"--device CPU {DEVICES}"),
        ("finetune", "--dtype", "float16", "it should be 'bfloat16' or 'float32'."),
        ("finetune", "--device", "cuda:0", "--device is \"cuda:0\"; it should be 'cpu' or 'cuda'."),
        ("extend", "dtype", "bf16", "machine.dtype is \"bf16\"; it should be 'bfloat16' or"),
        ("extend", "device", "foo", "machine.device is \"foo\"; it should be 'cpu' or 'cuda'"),
    ],
)
def test_a_name_that_nobody_has_is_refused_before_torch(
    model: Path, command: str, option: str, value: str, words: str
) -> None:
    folder = model.parent
    before = sorted(folder.rglob("*"))
    arguments = [*command.split(), "--model", str(model), "--length", "128"]
    if command != "evaluate passkey":
        arguments += ["--corpus", str(folder / "text.txt")]
    if command.startswith("evaluate"):
        arguments += ["--method", "pi"]
    if command == "finetune":
        arguments += ["--factors", str(folder / "none.json")]
    arguments += ["-o", str(folder / "out"), option, value]
    if command == "extend":
        arguments = ["extend", str(plan(folder, f'{option} = "{value}"'))]
        before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "no torch\n"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:2", "cuda:10"])
def test_a_gpu_that_is_not_here_is_refused_with_those_that_are(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    if device in ("cuda", "cuda:0"):
        compute.check_here(device)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        words = f"--device {device} is not a device that PyTorch has here: it has cpu."
    else:
        words = (
            f"--device {device} is not a device that PyTorch has here: it has cpu, cuda:0, cuda:1."
        )
    compute.check_name(device)
    with pytest.raises(ValueError, match=f"^{words}$"):
        compute.check_here(device)


@pytest.mark.parametrize(
    "device", ["", "cuda:", "cuda:01", "cuda:\uff11", "cuda:-1", "cpu:0 ", "mps"]
)
def test_no_other_name_is_a_device(device: str) -> None:
    with pytest.raises(ValueError, match="should be cpu, cuda, or cuda:N"):
        compute.check_name(device)


def test_any_device_is_none_or_cpu() -> None:
    compute.check_here(None)
    compute.check_here("cpu")


@pytest.mark.parametrize(
    ("dtype", "device", "capabilities", "is_slow"),
    [
        ("bfloat16", "cpu", {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ("bfloat16", None, {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ("bfloat16", "cpu", {"bf16": False}, True),
        ("bfloat16", "cpu", {"avx512_bf16": True, "amx_bf16": False}, False),
        ("bfloat16", "cpu", {"bf16": True}, False),
        ("bfloat16", "cpu", {}, False),
        ("float32", "cpu", {"avx512_bf16": False}, False),
        ("bfloat16", "cuda:1", {"avx512_bf16": False}, False),
    ],
)
def test_bfloat16_without_instructions_for_it_is_advised_against(
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    device: str | None,
    capabilities: dict[str, bool],
    is_slow: bool,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    advice = compute.advice(dtype, device)
    assert (advice is not None and "--dtype float32" in advice) == is_slow
