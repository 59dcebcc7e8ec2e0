"""Dtype and device of a model, checked before importing torch, which takes seconds."""

import re
from typing import Literal

from longrope_factors.cpu import lacks_bfloat16
from longrope_factors.factor_file.errors import UsageError

Dtype = Literal["bfloat16", "float16", "float32"]
_DEVICE = re.compile(r"cpu|cuda(:(?P<number>0|[1-9][0-9]{0,2}))?")


def check_name(device: str | None) -> None:
    """Raise UsageError unless --device is cpu, cuda or one GPU's name, or None for any device."""
    if device is not None and not _DEVICE.fullmatch(device):
        raise UsageError(f"--device {device} should be cpu, cuda, or cuda:N for GPU number N.")


def check_here(device: str | None) -> None:
    """Check as `check_name` does, and raise UsageError if this machine has no such GPU."""
    check_name(device)
    if device in (None, "cpu"):
        return
    import torch

    named = _DEVICE.fullmatch(device)
    count = torch.cuda.device_count()
    if named is not None and int(named["number"] or 0) >= count:
        gpus = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
        raise UsageError(f"--device {device} is not a device that PyTorch has here: it has {gpus}.")


def advice(dtype: str, device: str | None) -> str | None:
    """A sentence if `dtype` is slow on `device`: bfloat16 on a CPU that computes it in float32.

    If `device` is None, it is a GPU if there is one.
    """
    import torch

    on_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    if not on_cpu or dtype != "bfloat16" or not lacks_bfloat16(torch.cpu.get_capabilities()):
        return None
    return (
        "This CPU has no instructions for bfloat16: --dtype float32 would be several times as "
        "fast, in twice the memory."
    )
