"""Checkpoints: all that a run needs to resume after any interruption, sealed with a hash."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.files.whole_file import replacing

KEPT = 2
_STATE, _SEAL = "state.pt", "seal.json"


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Save `state` (tensors, numbers and strings in dicts and lists) after `step` steps.

    The seal, a file with the state's SHA-256, is written last: without it there is no checkpoint.
    Only the KEPT newest checkpoints are kept. Raises UsageError, a sentence, if the checkpoint
    cannot be written; older checkpoints are not touched then.
    """
    place = _place(folder, step)
    try:
        shutil.rmtree(place, ignore_errors=True)  # an unsealed or damaged one
        place.mkdir(parents=True)
        torch.save(state, place / _STATE)
        with (place / _STATE).open("rb") as file:
            os.fsync(file.fileno())
        seal = {"step": step, "sha256": _sha256(place / _STATE)}
        with replacing(place / _SEAL) as path:
            path.write_text(json.dumps(seal) + "\n", encoding="utf-8")
    # On a full disk, torch's writer raises RuntimeError, and replacing raises ValueError.
    except (OSError, RuntimeError, ValueError) as error:
        shutil.rmtree(place, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else "the disk takes no more"
        raise UsageError(
            f"{place}: this checkpoint cannot be written: {reason}; those before it are kept."
        ) from error
    for old in steps(folder)[:-KEPT]:
        shutil.rmtree(_place(folder, old))


def load(folder: Path, warn: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
    """Step and state, with tensors on the CPU, of the newest undamaged checkpoint, if any.

    Damaged checkpoints are skipped with a sentence to `warn`. Raises UsageError if all are damaged.
    """
    saved_steps = steps(folder)
    for step in reversed(saved_steps):
        try:
            return step, _read(_place(folder, step), step)
        except (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError):
            warn(f"{_place(folder, step)}: this checkpoint is damaged and passed over.")
    if saved_steps:
        raise UsageError(
            f"{folder}: every checkpoint there is damaged; remove the folder to start anew."
        )
    return None


def steps(folder: Path) -> list[int]:
    """The steps that have a sealed checkpoint, in ascending order."""
    return sorted(
        int(seal.parent.name.rpartition("-")[2]) for seal in folder.glob(f"step-*/{_SEAL}")
    )


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _read(place: Path, step: int) -> dict[str, Any]:
    seal = json.loads((place / _SEAL).read_text(encoding="utf-8"))
    if seal["sha256"] != _sha256(place / _STATE) or seal["step"] != step:
        raise UsageError(f"{place}: does not match its seal.")
    return torch.load(place / _STATE, map_location="cpu", weights_only=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
