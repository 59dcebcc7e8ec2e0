"""Two processes train what one does."""

import faulthandler
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from longrope_factors.finetuning import attention, journal, training
from longrope_factors.finetuning.settings import Settings
from longrope_factors.finetuning.trainer import Trainer
from longrope_factors.finetuning.watcher import Watcher
from safetensors.torch import load_file

from tests.factors import finetuning, processes


def in_two_processes(target: Callable[..., None], *arguments: Any, crashes: int = 0) -> None:
    """Runs `target` in both; so many times again where one of them dies of a signal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = [processes.started(as_rank, rank, port, target, *arguments) for rank in range(2)]
    for child in children:
        child.join()
    statuses = [child.exitcode for child in children]
    if crashes and any(status is not None and status < 0 for status in statuses):
        in_two_processes(target, *arguments, crashes=crashes - 1)
    else:
        assert statuses == [0, 0]


def as_rank(rank: int, port: str, target: Callable[..., None], *arguments: Any) -> None:
    """What torchrun tells a process by its environment."""
    faulthandler.enable()  # of a crash in PyTorch, too, there should be more to see than a signal
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": port}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    target(*arguments)
    if torch.distributed.is_initialized():
        # The first process keeps what all of them meet by: none may leave before the others are in.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def check_same(one: Path, other: Path) -> None:
    ours, theirs = (journal.read(folder / "loss.jsonl") for folder in (one, other))
    assert [step.step for step in ours] == [step.step for step in theirs]
    assert [step.tokens for step in ours] == [step.tokens for step in theirs]
    for name in ("loss", "gradient_norm"):
        losses = [[getattr(step, name) for step in steps] for steps in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # Adam divides by gradients that may be rounding alone: not more than the rates allow.
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    for name, weights in ours.items():
        torch.testing.assert_close(weights, theirs[name], rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_two_processes_share_a_batch(tmp_path: Path) -> None:
    settings = finetuning.settings(
        tmp_path,
        **finetuning.EVERYTHING,
        output=tmp_path / "one",
    )
    training.run(settings)
    two = finetuning.replace(settings, output=tmp_path / "two", device="cpu")
    in_two_processes(training.run, two)
    check_same(two.output, settings.output)
    odd = finetuning.replace(two, batch=3, output=tmp_path / "odd")
    in_two_processes(refused, odd, "should be a multiple of 2")


def refused(settings: Settings, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        training.run(settings)


@pytest.mark.long
def test_a_shared_sequence_needs_gpus(tmp_path: Path) -> None:
    settings = finetuning.settings(tmp_path, context_parallel=2, device="cpu")
    refused(settings, "--context-parallel 2 should divide the number of processes, 1")
    in_two_processes(refused, settings, "needs GPUs: accelerate refuses it on CPUs")


@pytest.mark.long
def test_two_processes_share_a_sequence_but_for_the_kernel(tmp_path: Path) -> None:
    """accelerate's FSDP2 and torch's sharding run on CPUs, but torch's attention does not.

    So attention is plain here, over keys and values gathered from both processes; all else (the
    shares of a sequence, their positions, losses, gradients, checkpoints) is what GPUs run. Once in
    some hundred times a process dies here of a broken heap (torch 2.13); the run then goes on from
    its checkpoint.
    """
    settings = finetuning.settings(tmp_path, device="cpu")
    # Whole windows alone: nothing to pack, which --context-parallel leaves out.
    finetuning.text(settings.corpus[0], 3 * finetuning.LENGTH, 2 * finetuning.LENGTH)
    one = finetuning.replace(settings, corpus=settings.corpus[:1], output=tmp_path / "one")
    training.run(one)
    two = finetuning.replace(one, context_parallel=2, output=tmp_path / "two")
    in_two_processes(share_and_stop, two, 3, crashes=1)
    assert len(journal.read(two.output / "loss.jsonl")) == 3
    in_two_processes(share_and_stop, two, 4, crashes=1)
    check_same(two.output, one.output)


def share_and_stop(settings: Settings, after: int) -> None:
    from accelerate import DistributedType, PartialState

    PartialState(cpu=True)
    # Any device but CPUs: accelerate then goes on to FSDP2.
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
    attention._within_documents = _gathering
    original = Trainer.steps

    def steps(run: Any, done: int, watcher: Watcher) -> Any:
        for step in original(run, done, watcher):
            yield step
            if step.step == after < settings.steps:
                raise InterruptedError

    Trainer.steps = steps
    try:
        training.run(settings)
    except InterruptedError:
        assert after < settings.steps


def _gathering(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    position_ids: torch.Tensor,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    from torch.distributed.nn.functional import all_gather
    from transformers.integrations.sdpa_attention import repeat_kv

    groups = module.num_key_value_groups
    keys, values = (
        repeat_kv(torch.cat(all_gather(states.contiguous()), 2), groups) for states in (key, value)
    )
    positions = torch.cat(all_gather(position_ids.contiguous()), 1)
    scores = (query @ keys.transpose(2, 3)) * scaling
    hidden = positions[0][None, :] > position_ids[0][:, None]
    shares = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return (shares @ values).transpose(1, 2).contiguous(), None
